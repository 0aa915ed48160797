"""Multi-head latent attention beside its attention: the heads' own matrices."""

from __future__ import annotations

from tvm import tirx

from .isa import Isa
from .layout import BLOCK, num_blocks
from .linear import CodedMatrix, FloatMatrix, for_tiles, multiply_codes, multiply_floats, store_block
from .rows import Rows, load_rows
from .script import Buffer, Expr, T, Vector, kernel, symbol

__all__ = ["head_linear_float", "head_linear_quantized"]


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
