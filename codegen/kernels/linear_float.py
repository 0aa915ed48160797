"""Matrix products ``x @ weight.T`` of rows of floats over blocked weights (:mod:`.layout`).

Of weights that are floats too, :mod:`.float_product` says how; of those in a format, :mod:`.linear_decoded`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from .coded import CodedMatrix
from .float_product import FloatMatrix, FloatProduct, blocks_of_tile, helpers_for, rows_argument
from .isa import Isa
from .layout import BLOCK, num_blocks
from .linear_decoded import DecodedProduct
from .rows import RoundedRows, Rows
from .script import Buffer, Expr, T, kernel, symbol
from .tiles import Panel, Results

__all__ = ["linear_float", "product_of"]

_PANEL_BLOCKS = 8
"""Blocks of a panel at most."""

_LEAST_PANELS = 16
"""Panels that there are at least, so that no worker has much more than another."""

_FEW_ROWS = 32
"""Up to so many rows, reading weights is what takes the time: panels have one tile's blocks then, and memory
is read in the order in which it lies.
"""


def product_of(
    isa: Isa,
    matrix: FloatMatrix | CodedMatrix,
    x: Rows | RoundedRows,
    rows: Buffer,
    weights: Sequence[Buffer],
    column: Expr = 0,
) -> FloatProduct | DecodedProduct:
    """``rows`` of floats, seen as ``x`` from ``column`` on, times a matrix in ``weights``."""
    if isinstance(matrix, FloatMatrix):
        return FloatProduct(isa, matrix, x, rows, weights[0], column)
    assert isinstance(x, Rows), "rows are rounded to bfloat16 for weights of bfloat16"
    return DecodedProduct(isa, matrix, x, rows, weights, column)


def linear_float(
    isa: Isa, name: str, matrix: FloatMatrix | CodedMatrix, x: Rows | RoundedRows, has_bias: bool
) -> tirx.PrimFunc:
    """Weights times activations of floats.

    Arguments: ``x`` float32 ``[m, x.stride]``, or uint16 where rounded to bfloat16, the matrix' own, a bias
    float32 ``[blocks * 16]`` if there is one, and the result float32 ``[m, outputs]``.
    """
    blocks, least = num_blocks(matrix.outputs), blocks_of_tile(isa)
    most = max(least, min(_PANEL_BLOCKS, blocks // _LEAST_PANELS // least * least))

    def body(rows: Buffer, *rest: Buffer) -> None:
        weights, (*bias, out) = rest[: matrix.num_arguments], rest[matrix.num_arguments :]
        results = Results(out, matrix.outputs, bias[0] if bias else None)
        width: tirx.Expr = T.int64(least)
        if most > least:
            width = tirx.Select(rows.shape[0] <= _FEW_ROWS, width, T.int64(most))
        product = product_of(isa, matrix, x, rows, weights)
        with T.parallel((blocks + width - 1) // width) as item:
            panel = Panel(item * width, tirx.min(width, blocks - item * width))
            product.multiply(panel, rows.shape[0], results)

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        rows_argument(x, m),
        *matrix.arguments(blocks),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (m, matrix.outputs), "float32"),
    ]
    return kernel(name, arguments, body, helpers=helpers_for(isa, x))
