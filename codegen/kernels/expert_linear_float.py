"""Rows of floats times the weights of the experts that were chosen for them."""

from __future__ import annotations

from tvm import tirx

from .coded import CodedMatrix
from .experts import Items, grouping_arguments
from .float_product import FloatMatrix, helpers_for, rows_argument
from .isa import Isa
from .layout import BLOCK, num_blocks
from .linear_float import product_of
from .rows import RoundedRows, Rows
from .script import Buffer, Expr, Vector, cast, kernel, load, symbol
from .tiles import Blocks, Results

__all__ = ["expert_linear_float"]


def expert_linear_float(
    isa: Isa,
    name: str,
    experts: int,
    experts_per_token: int,
    matrix: FloatMatrix | CodedMatrix,
    x: Rows | RoundedRows,
    shared: bool,
    has_bias: bool,
) -> tirx.PrimFunc:
    """Float rows times the weights of each one's expert.

    Arguments: ``x`` float32, or uint16 where rounded to bfloat16, a row for each token where it is ``shared``
    by its experts, or else for each pair; ``order``, ``starts``, ``active``, the experts' weights and bias as
    :func:`.experts.expert_linear_quantized` has them; the result float32 ``[pairs, outputs]``.
    """
    outputs = matrix.outputs

    def body(rows: Buffer, order: Buffer, starts: Buffer, active: Buffer, *rest: Buffer) -> None:
        weights, (*bias, out) = rest[: matrix.num_arguments], rest[matrix.num_arguments :]
        results = Results(out, outputs, bias[0] if bias else None)

        def emit(panel: Blocks, first: Expr, num_rows: Expr) -> None:
            def rows_of(row: Expr, height: int) -> tuple[list[Expr], list[Expr]]:
                sources: list[Expr] = []
                targets: list[Expr] = []
                for m in range(height):
                    pair, source = Vector("int64", 1), Vector("int64", 1)
                    pair.set(cast("int64", 1, load(order, (first + row + m,))))
                    source.set(pair.value // (experts_per_token if shared else 1))
                    sources.append(source.value)
                    targets.append(pair.value)
                return sources, targets

            product.multiply(panel, num_rows, results, rows_of)

        product = product_of(isa, matrix, x, rows, weights)
        Items(outputs, starts, active).each_panel(emit)

    pairs, blocks = symbol("pairs"), experts * num_blocks(outputs)
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        rows_argument(x, symbol("rows")),
        *grouping_arguments(pairs, experts),
        *matrix.arguments(blocks),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (pairs, outputs), "float32"),
    ]
    return kernel(name, arguments, body, helpers=helpers_for(isa, x))
