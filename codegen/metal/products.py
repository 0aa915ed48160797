"""Products of many rows, on matrices of simdgroups."""

from __future__ import annotations

from ...targets.launch_plan import Bound
from ..gpu.planning import Planning
from ..gpu.rules.products import Product
from ..kernels.layout import BLOCK

__all__ = ["multiply_many"]

_TILE_ROWS, _TILE_OUTPUTS, _TILE_INPUTS, _THREADS = 32, 64, 32, 128
"""As sources/products.metal has them."""

_TILE_FLOATS = _TILE_ROWS * (_TILE_INPUTS + 4) + _TILE_INPUTS * (_TILE_OUTPUTS + 4)


def multiply_many(planning: Planning, product: Product) -> bool:
    """Launch a product of tiles; any weights have one."""
    coded = product.weights.format
    if not product.row_group:
        rows = f"FloatRows<{product.view}, {product.inputs}>{{x}}"
    elif product.is_exact and coded is not None and coded.offset is None:
        rows = f"WholeRows<{product.inputs}>{{x, row_scales}}"
    else:
        rows = f"ScaledRows<{product.inputs}, {product.row_group}>{{x, row_scales}}"
    kind, bias = rows.partition("{")[0], "bias" if product.has_bias else "nullptr"
    product.launch(
        planning,
        "multiply_many",
        f"SHARED_ARRAY(float, shared, [{_TILE_FLOATS}]); "
        f"multiply_many<{kind}, {product.weights.type}, {product.outputs}, {product.flags}>"
        f"(here, shared, tile, {rows}, {product.weights.value}, {bias}, out);",
        rows_at_once=_TILE_ROWS,
        blocks_at_once=_TILE_OUTPUTS // BLOCK,
        threads=_THREADS,
        bound=Bound(product.rows, at_least=product.few + 1),
    )
    return True
