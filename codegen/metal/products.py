"""Products of many rows, on matrices of simdgroups."""

from __future__ import annotations

from ...targets.launch_plan import Bound
from ..gpu.planning import Planning, size_of
from ..gpu.rules.products import FEW_ROWS, Product

__all__ = ["multiply_many"]

_TILE_ROWS, _TILE_OUTPUTS, _TILE_INPUTS, _THREADS = 32, 64, 32, 128
"""As sources/products.metal has them."""

_TILE_FLOATS = _TILE_ROWS * (_TILE_INPUTS + 4) + _TILE_INPUTS * (_TILE_OUTPUTS + 4)


def multiply_many(planning: Planning, product: Product) -> bool:
    """Launch a product of tiles; any weights have one."""
    if not product.row_group:
        rows = f"FloatRows<{product.view}, {product.inputs}>{{x}}"
    elif product.is_exact:
        rows = f"WholeRows<{product.inputs}>{{x, row_scales}}"
    else:
        rows = f"ScaledRows<{product.inputs}, {product.row_group}>{{x, row_scales}}"
    kind, bias = rows.partition("{")[0], "bias" if product.has_bias else "nullptr"
    body = (
        f"SHARED_ARRAY(float, shared, [{_TILE_FLOATS}]); "
        f"multiply_tiles<{kind}, {product.weights.type}, {product.outputs}, {product.flags}>"
        f"(here, shared, {rows}, {product.weights.value}, {bias}, out, num_rows);"
    )
    planning.launch(
        "multiply_many",
        body,
        product.arguments,
        (size_of(-(-product.outputs // _TILE_OUTPUTS)), size_of(product.rows, over=_TILE_ROWS)),
        _THREADS,
        (Bound(product.rows, at_least=FEW_ROWS + 1),),
    )
    return True
