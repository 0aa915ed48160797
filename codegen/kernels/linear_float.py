"""Matrix products ``x @ weight.T`` of rows of floats over blocked weights (:mod:`.layout`).

Of weights that are floats too, :mod:`.float_product` says how; of those in a format, :mod:`.linear_decoded`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from .coded import CodedMatrix
from .float_product import FloatMatrix, FloatProduct, helpers_for, rows_argument
from .isa import Avx512Amx, Isa
from .layout import BLOCK, num_blocks
from .linear_decoded import DecodedProduct
from .rows import RoundedRows, Rows
from .script import Buffer, Expr, T, kernel, symbol
from .tile_product import TileProduct
from .tiles import Blocks, Results

__all__ = ["linear_float", "product_of"]

_LEAST_PANELS = 16
"""Panels that there are at least, so that no worker has much more than another."""


def product_of(
    isa: Isa,
    matrix: FloatMatrix | CodedMatrix,
    x: Rows | RoundedRows,
    rows: Buffer,
    weights: Sequence[Buffer],
) -> FloatProduct | DecodedProduct:
    """``rows`` of floats, seen as ``x``, times a matrix in ``weights``."""
    if isinstance(matrix, FloatMatrix):
        return FloatProduct(isa, matrix, x, rows, weights[0])
    assert isinstance(x, Rows), "rows are rounded to bfloat16 for weights of bfloat16"
    return DecodedProduct(isa, matrix, x, rows, weights)


def linear_float(
    isa: Isa, name: str, matrix: FloatMatrix | CodedMatrix, x: Rows | RoundedRows, has_bias: bool
) -> tirx.PrimFunc:
    """Weights times activations of floats.

    Arguments: ``x`` float32 ``[m, x.stride]``, or uint16 where rounded to bfloat16, the matrix' own, a bias
    float32 ``[blocks * 16]`` if there is one, and the result float32 ``[m, outputs]``.
    """
    blocks = num_blocks(matrix.outputs)

    def body(rows: Buffer, *rest: Buffer) -> None:
        weights, (*bias, out) = rest[: matrix.num_arguments], rest[matrix.num_arguments :]
        results = Results(out, matrix.outputs, bias[0] if bias else None)
        product = product_of(isa, matrix, x, rows, weights)
        if isinstance(matrix, FloatMatrix) and isinstance(isa, Avx512Amx) and isinstance(x, RoundedRows):
            product = TileProduct(isa, matrix, x, rows, weights[0])
        tiling = product.tiling
        most = min(tiling.panel_blocks, blocks // _LEAST_PANELS // tiling.blocks * tiling.blocks)
        width: tirx.Expr = T.int64(tiling.blocks)
        if most > tiling.blocks:
            width = tirx.Select(rows.shape[0] <= tiling.few_rows, width, T.int64(most))
        with T.parallel((blocks + width - 1) // width) as item:
            panel = Blocks(item * width, tirx.min(width, blocks - item * width))
            product.multiply(panel, rows.shape[0], results)

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        rows_argument(x, m),
        *matrix.arguments(blocks),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (m, matrix.outputs), "float32"),
    ]
    return kernel(name, arguments, body, helpers=helpers_for(isa, x))
