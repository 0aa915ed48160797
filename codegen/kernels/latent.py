"""Multi-head latent attention beside its attention: the heads' own matrices."""

from __future__ import annotations

from tvm import tirx

from .code_products import multiply_codes, rows_for, tile_rows
from .coded import CodedMatrix
from .float_product import FloatMatrix, helpers_for, rows_argument
from .isa import Isa
from .layout import num_blocks
from .linear_float import product_of
from .panel_choice import find_panels
from .row_codes import CodeRows
from .rows import RoundedRows, Rows
from .script import Buffer, Expr, T, Vector, kernel, symbol
from .tiles import Blocks, Results, for_tiles, in_order, store_block

__all__ = ["head_linear_float", "head_linear_quantized"]


def head_linear_float(
    isa: Isa, name: str, heads: int, matrix: FloatMatrix | CodedMatrix, x: Rows | RoundedRows
) -> tirx.PrimFunc:
    """Each head, of floats, times weights of its own.

    Arguments: ``x`` float32 ``[m, x.stride]``, or uint16 where rounded to bfloat16, ``heads * matrix.inputs``
    of which are the heads; the heads' blocks of weights one after the other; the result float32
    ``[m, heads * matrix.outputs]``.
    """
    inputs, outputs = matrix.inputs, matrix.outputs
    blocks = num_blocks(outputs)

    def body(rows: Buffer, *rest: Buffer) -> None:
        *weights, out = rest
        by_head = T.decl_buffer((rows.shape[0] * heads, outputs), "float32", data=out.data)
        product = product_of(isa, matrix, x, rows, weights)
        width = product.tiling.blocks
        panels = -(-blocks // width)
        with T.parallel(heads * panels) as item:
            head, first = item // panels, tirx.floormod(item, panels) * width
            panel = Blocks(first, tirx.min(T.int64(width), blocks - first), head * blocks, head * inputs)

            def rows_of(row: Expr, height: int) -> tuple[list[Expr], list[Expr]]:
                sources, _ = in_order(row, height)
                return sources, [source * heads + head for source in sources]

            product.multiply(panel, rows.shape[0], Results(by_head, outputs), rows_of)

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        rows_argument(x, m),
        *matrix.arguments(heads * blocks),
        ("out", (m, heads * outputs), "float32"),
    ]
    return kernel(name, arguments, body, helpers=helpers_for(isa, x))


def head_linear_quantized(isa: Isa, name: str, heads: int, matrix: CodedMatrix) -> tirx.PrimFunc:
    """Codes of each head times codes of weights of its own.

    Arguments: the heads side by side as :func:`.quantize.quantize_rows` leaves them, pieces of one row; the
    matrix' own, one head's blocks after the other's; the result float32 ``[m, heads * matrix.outputs]``.
    """
    outputs, layout = matrix.outputs, rows_for(matrix, heads)
    blocks = num_blocks(outputs)

    def body(x_codes: Buffer, x_scales: Buffer, x_sums: Buffer, *rest: Buffer) -> None:
        *weights, out = rest
        num_rows, x = x_codes.shape[0], CodeRows(layout, (x_codes, x_scales, x_sums))
        by_head = T.decl_buffer((num_rows * heads, outputs), "float32", data=out.data)
        choice = find_panels(isa, matrix)

        def by_tiles() -> None:
            with T.parallel(heads * blocks) as item:
                head, block = item // blocks, tirx.floormod(item, blocks)

                def tile(height: int, row: Expr) -> None:
                    def finish(m: int, parts: list[Vector]) -> None:
                        store_block(isa, by_head, (row + m) * heads + head, block, outputs, None, parts)

                    multiply_codes(isa, matrix, x.at(piece=head), weights, item, row, height, finish)

                for_tiles(num_rows, tile_rows(isa, matrix), tile)

        if choice is None:
            by_tiles()
            return
        count = choice.count(outputs)
        with T.If(num_rows < choice.least_rows):
            with T.Then():
                by_tiles()
            with T.Else(), T.parallel(heads * count) as item:
                memory = choice.memory(matrix.inputs)
                head, number = item // count, tirx.floormod(item, count)

                def store_row(row: Expr, block: Expr, results: list[Vector]) -> None:
                    store_block(isa, by_head, row * heads + head, block, outputs, None, results)

                choice.product.enter()
                place = number, head * blocks
                choice.multiply(isa, matrix, x.at(piece=head), num_rows, weights, place, memory, store_row)
                choice.product.leave()

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        *layout.arguments(m),
        *matrix.arguments(heads * blocks),
        ("out", (m, heads * outputs), "float32"),
    ]
    return kernel(name, arguments, body)
