"""Multi-head latent attention beside its attention: the heads' own matrices, and writing to the cache."""

from __future__ import annotations

from tvm import tirx

from .isa import Isa
from .layout import BLOCK, num_blocks
from .linear import CodedMatrix, FloatMatrix, for_tiles, multiply_codes, multiply_floats, store_block
from .rows import Rows, load_rows
from .script import Buffer, Expr, T, Vector, cast, kernel, load, store, symbol

__all__ = ["append_latents", "head_linear_float", "head_linear_quantized"]


def head_linear_float(isa: Isa, name: str, heads: int, matrix: FloatMatrix, x: Rows) -> tirx.PrimFunc:
    """Each head times float weights of its own.

    Arguments: ``x`` float32 ``[m, x.stride]``, ``heads * matrix.inputs`` of which are the heads; the heads'
    blocks of weights one after the other; the result float32 ``[m, heads * matrix.outputs]``.
    """
    inputs, outputs = matrix.inputs, matrix.outputs
    blocks = num_blocks(outputs)

    def body(rows: Buffer, weights: Buffer, out: Buffer) -> None:
        by_head = T.decl_buffer((rows.shape[0] * heads, outputs), "float32", data=out.data)
        with T.parallel(heads * blocks) as item:
            head, block = item // blocks, tirx.floormod(item, blocks)

            def tile(height: int, row: Expr) -> None:
                def activation(m: int, column: Expr) -> tirx.Expr:
                    return load_rows(rows, x, row + m, head * inputs + column)

                def finish(m: int, parts: list[Vector]) -> None:
                    store_block(isa, by_head, (row + m) * heads + head, block, outputs, None, parts)

                multiply_floats(isa, matrix, activation, weights, item, height, finish)

            for_tiles(rows.shape[0], isa.float_rows, tile)

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x", (m, x.stride), "float32"),
        ("weights", (heads * blocks, inputs, BLOCK), matrix.dtype),
        ("out", (m, heads * outputs), "float32"),
    ]
    return kernel(name, arguments, body)


def head_linear_quantized(isa: Isa, name: str, heads: int, matrix: CodedMatrix) -> tirx.PrimFunc:
    """Codes of each head times codes of weights of its own, exact within a group.

    Arguments: the heads side by side as :func:`.quantize.quantize_rows` leaves them (codes int8
    ``[m, heads * matrix.inputs]``, scales float32 and sums int32 ``[m, groups]``), the heads' blocks of codes
    and scales one after the other; the result float32 ``[m, heads * matrix.outputs]``.
    """
    width, groups, outputs = heads * matrix.inputs, heads * matrix.groups, matrix.outputs
    blocks = num_blocks(outputs)

    def body(
        x_codes: Buffer, x_scales: Buffer, x_sums: Buffer, codes: Buffer, scales: Buffer, out: Buffer
    ) -> None:
        num_rows = x_codes.shape[0]
        words = T.decl_buffer((num_rows * (width // 4),), "int32", data=x_codes.data)
        by_head = T.decl_buffer((num_rows * heads, outputs), "float32", data=out.data)
        with T.parallel(heads * blocks) as item:
            head, block = item // blocks, tirx.floormod(item, blocks)

            def tile(height: int, row: Expr) -> None:
                def finish(m: int, parts: list[Vector]) -> None:
                    store_block(isa, by_head, (row + m) * heads + head, block, outputs, None, parts)

                x, weights = (words, x_scales, x_sums), (codes, scales)
                within = width, head * matrix.groups
                multiply_codes(isa, matrix, x, weights, item, row, height, finish, within=within)

            for_tiles(num_rows, isa.integer_rows, tile)

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x_codes", (m, width), "int8"),
        ("x_scales", (m, groups), "float32"),
        ("x_sums", (m, groups), "int32"),
        ("codes", (heads * blocks, matrix.block_bytes), "uint8"),
        ("scales", (heads * blocks, matrix.groups, BLOCK), matrix.scale_type),
        ("out", (m, heads * outputs), "float32"),
    ]
    return kernel(name, arguments, body)


def append_latents(isa: Isa, name: str, x: Rows, page_size: int, dtype: str) -> tirx.PrimFunc:
    """Write each row into its slot (``page * page_size + offset``).

    Arguments: the cache ``dtype`` ``[pages, 1, width, page_size]``, laid as that of keys; ``x`` float32
    ``[m, x.stride]``; slots int32 ``[m]``.
    """

    def body(cache: Buffer, rows: Buffer, slots: Buffer) -> None:
        with T.parallel(slots.shape[0]) as row:
            page = load(slots, (row,)) // page_size
            offset = tirx.floormod(load(slots, (row,)), page_size)
            with T.serial(x.width) as column:
                store(cache, (page, 0, column, offset), cast(dtype, 1, load_rows(rows, x, row, column)))

    m, pages = symbol("m"), symbol("pages")
    arguments = [
        ("cache", (pages, 1, x.width, page_size), dtype),
        ("x", (m, x.stride), "float32"),
        ("slots", (m,), "int32"),
    ]
    return kernel(name, arguments, body)
