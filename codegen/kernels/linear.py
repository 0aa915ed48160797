"""Matrix products ``x @ weight.T`` of rows of codes over blocked weights (:mod:`.layout`).

Each worker takes blocks of 16 outputs. For few rows a block's weights are unpacked for each register tile of
them: read from memory once, then from cache. For many rows they are widened once (:mod:`.panels`). A row's
result depends on neither: products of codes are exact, and floats are added in one order, groups ascending.
"""

from __future__ import annotations

from tvm import tirx

from .code_products import multiply_codes, rows_for, tile_rows
from .coded import CodedMatrix
from .isa import Isa
from .layout import BLOCK, num_blocks
from .panel_choice import find_panels
from .row_codes import CodeRows
from .script import Buffer, Expr, T, Vector, kernel, symbol
from .tiles import for_tiles, store_block

__all__ = ["linear_quantized"]


def linear_quantized(isa: Isa, name: str, matrix: CodedMatrix, has_bias: bool) -> tirx.PrimFunc:
    """Codes of activations times codes of weights.

    Arguments: activations as :func:`.quantize.quantize_rows` leaves them, the matrix' own, a bias float32
    ``[blocks * 16]`` if there is one, and the result float32 ``[m, outputs]``.
    """
    outputs, layout = matrix.outputs, rows_for(matrix)
    choice = find_panels(isa, matrix)

    def body(x_codes: Buffer, x_scales: Buffer, x_sums: Buffer, *rest: Buffer) -> None:
        weights, (*bias, out) = rest[: matrix.num_arguments], rest[matrix.num_arguments :]
        num_rows, x = x_codes.shape[0], CodeRows(layout, (x_codes, x_scales, x_sums))
        added = bias[0] if bias else None

        def store_row(row: Expr, block: Expr, results: list[Vector]) -> None:
            store_block(isa, out, row, block, outputs, None, results)

        def by_tiles() -> None:
            with T.parallel(num_blocks(outputs)) as block:

                def tile(height: int, row: Expr) -> None:
                    def finish(m: int, results: list[Vector]) -> None:
                        store_row(row + m, block, results)

                    multiply_codes(isa, matrix, x, weights, block, row, height, finish, added)

                for_tiles(num_rows, tile_rows(isa, matrix), tile)

        if choice is None:
            by_tiles()
            return
        with T.If(num_rows < choice.least_rows):
            with T.Then():
                by_tiles()
            with T.Else(), T.parallel(choice.count(outputs)) as number:
                memory = choice.memory(matrix.inputs)
                choice.product.enter()
                place = number, 0
                choice.multiply(isa, matrix, x, num_rows, weights, place, memory, store_row, added)
                choice.product.leave()

    m, blocks = symbol("m"), num_blocks(outputs)
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        *layout.arguments(m),
        *matrix.arguments(blocks),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (m, outputs), "float32"),
    ]
    return kernel(name, arguments, body)
