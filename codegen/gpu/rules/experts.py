"""Mixtures of experts: the choice, products with the weights of those chosen, the sum of what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ....ir import Operation
from ....ir.errors import CompileError
from ....targets.launch_plan import Bound
from ...kernels.layout import num_blocks
from ...lowering.step import width_of
from ..planning import Planning, Rule, row_type, size_of
from .pairs import Pairs
from .products import FEW_ROWS, Tiles, multiply

__all__ = ["RULES"]

_SCORES = {
    "softmax": "SOFTMAX",
    "softmax_of_chosen": "SOFTMAX_OF_CHOSEN",
    "sigmoid": "SIGMOID",
    "sparsemixer": "SPARSE_MIXER",
}

_MOST_CHOSEN = 32
"""Experts of a token: a lane keeps the weight of each."""

_SUM_THREADS = 128

_OFTEN_SHARED = 8
"""Experts for each pair of a token and one of them; with less, experts are often shared by tokens."""

_FEW_OF_EXPERT = 4
"""Rows an expert has on average up to which a product is bound by reading the weights."""


def _route(planning: Planning, operation: Operation) -> None:
    logits, *biases = operation.operands
    region, attributes = planning.region(logits), operation.attributes
    experts = int(logits.type.shape[1])
    count, groups, kept, terms = (
        cast(int, attributes[key]) for key in ("experts_per_token", "groups", "kept_groups", "group_terms")
    )
    if count > _MOST_CHOSEN:
        raise CompileError(
            f"route (%{operation.results[0].name}) chooses {count} experts; {planning.machine}'s kernel "
            f"chooses up to {_MOST_CHOSEN}"
        )
    chosen = planning.new_array(size_of(region.rows, count), 4)
    weights = planning.result(operation.results[1], region.rows, count)
    planning.plain[operation.results[0]] = chosen
    flags = ", ".join(str(flag).lower() for flag in (bool(biases), bool(attributes["normalize"])))
    scoring = f"Scoring::{_SCORES[cast(str, attributes['scores'])]}"
    scale, jitter = (float(cast(float, attributes[key])) for key in ("scale", "jitter"))
    body = (
        f"SHARED_ARRAY(float, ranked, [{experts}]); SHARED_ARRAY(float, judged, [{groups}]); "
        f"route<Routing<{experts}, {count}, {scoring}, {groups}, {kept}, {terms}, {flags}>, "
        f"{row_type(region.view)}>(here, ranked, judged, logits, {'bias' if biases else 'nullptr'}, chosen, "
        f"weights, {scale!r}f, {jitter!r}f);"
    )
    arguments = [
        ("GLOBAL const float* logits", region.array),
        *(("GLOBAL const float* bias", planning.parameter(value)) for value in biases),
        ("GLOBAL int* chosen", chosen),
        ("GLOBAL float* weights", weights.array),
    ]
    planning.launch("route", body, arguments, (size_of(region.rows),), 32)


def _expert_linear(planning: Planning, operation: Operation) -> None:
    x, weight, chosen, *_ = operation.operands
    experts, outputs = (int(dim) for dim in weight.type.shape[:2])
    count = int(chosen.type.shape[1])
    pairs = Pairs(chosen, experts, count, each=count if x.type.rank == 2 else 1)

    numbers = f"{pairs.each}, {num_blocks(outputs)}"

    def tiles_of(rows_at_once: int, bound: Bound) -> Tiles:
        if rows_at_once == 1:
            setup = f"LoneRow<{pairs.each}> tile = lone_row<{numbers}>(chosen, here.block_y()); "
            chosen_of = ("GLOBAL const int* chosen", planning.plain[chosen])
            return Tiles(setup, (chosen_of,), (size_of(chosen.type.shape[0], count),))
        grouping = pairs.group(planning, rows_at_once, bound, by_position=bound.at_most is not None)
        return Tiles(
            f"RowsOfExpert<{pairs.each}> tile = rows_of_expert<{numbers}>"
            "(order, tiles, here.block_y());\n  if (tile.first_row == tile.end_row) return;\n  ",
            (("GLOBAL const int* order", grouping.order), ("GLOBAL const int* tiles", grouping.tiles)),
            (grouping.num_tiles,),
        )

    multiply(
        planning,
        operation,
        operation.operands[3:],
        tiles_of,
        view=None if x in planning.rounded else planning.row_by_row(x)[2],
        few=max(FEW_ROWS, _FEW_OF_EXPERT * experts // count),
        lone=max(1, experts // (_OFTEN_SHARED * count)),
        are_bounded=True,
        pairs=pairs,
    )


def _take_chosen(planning: Planning, operation: Operation) -> None:
    x, chosen = operation.operands
    region, count = planning.region(x), int(chosen.type.shape[1])
    out = planning.result(operation.result, region.rows, count)
    arguments = [
        ("GLOBAL const float* x", region.array),
        ("GLOBAL const int* chosen", planning.plain[chosen]),
        ("GLOBAL float* out", out.array),
    ]
    body = f"take_chosen<{count}, {row_type(region.view)}>(here, x, chosen, out);"
    planning.launch("take_chosen", body, arguments, (size_of(region.rows),), 32)


def _weighted_sum(planning: Planning, operation: Operation) -> None:
    x, weights = (planning.region(value) for value in operation.operands)
    width = width_of(operation.result.type)
    out = planning.result(operation.result, x.rows, width)
    arguments = [
        ("GLOBAL const float* x", x.array),
        ("GLOBAL const float* weights", weights.array),
        ("GLOBAL float* out", out.array),
    ]
    body = (
        f"weighted_sum<{_SUM_THREADS}, {row_type(x.view)}, {row_type(weights.view)}>(here, x, weights, out);"
    )
    grid = (size_of(x.rows), size_of(-(-width // _SUM_THREADS)))
    planning.launch("weighted_sum", body, arguments, grid, _SUM_THREADS)


RULES: Mapping[str, Rule] = {
    "expert_linear": _expert_linear,
    "route": _route,
    "take_chosen": _take_chosen,
    "weighted_sum": _weighted_sum,
}
"""By operator."""
