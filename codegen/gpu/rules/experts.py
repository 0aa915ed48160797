"""Mixtures of experts: the choice, products with the weights of those chosen, the sum of what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ....ir import Operation, Value
from ....ir.errors import CompileError
from ....targets.launch_plan import Argument, Bound, Size
from ...kernels.layout import num_blocks
from ...lowering.step import width_of
from ..planning import Grouping, Planning, Rule, row_type, size_of
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


def _group(planning: Planning, chosen: Value, experts: int, rows_at_once: int, bound: Bound) -> Grouping:
    """A step's pairs in order, cut into tiles, for products that are launched within the bound."""
    by_position = bound.at_most is not None
    key = chosen, experts, rows_at_once, by_position
    if key not in planning.groupings:
        threads = 32 if by_position else 256
        rows, count = (chosen.type.shape[0], int(chosen.type.shape[1]))
        num_tiles = size_of(rows, count)
        if not by_position:  # each expert may have one that is not full
            num_tiles = Size(count, (str(rows),), rows_at_once, more=experts)
        order = planning.new_array(size_of(rows, count), 4)
        tiles = planning.new_array(num_tiles, 12)
        body = (
            f"SHARED_ARRAY(int, parts, [{threads // 32}][2]); "
            f"group_pairs<{threads}, {rows_at_once}, {str(by_position).lower()}>"
            f"(here, parts, chosen, order, tiles, num_rows * {count});"
        )
        arguments = [
            ("GLOBAL const int* chosen", planning.plain[chosen]),
            ("GLOBAL int* order", order),
            ("GLOBAL int* tiles", tiles),
            ("int num_rows", Argument("symbol", str(rows))),
        ]
        planning.launch("group_pairs", body, arguments, (size_of(experts),), threads, (bound,))
        planning.groupings[key] = Grouping(order, tiles, num_tiles)
    return planning.groupings[key]


def _expert_linear(planning: Planning, operation: Operation) -> None:
    x, weight, chosen, *_ = operation.operands
    experts, outputs = (int(dim) for dim in weight.type.shape[:2])
    count = int(chosen.type.shape[1])
    each = count if x.type.rank == 2 else 1
    few = max(FEW_ROWS, _FEW_OF_EXPERT * experts // count)

    def tiles_of(rows_at_once: int, bound: Bound | None) -> Tiles:
        assert bound is not None, "few and many rows are cut in different ways"
        grouping = _group(planning, chosen, experts, rows_at_once, bound)
        return Tiles(
            f"RowsOfExpert<{each}> tile = rows_of_expert<{each}, {num_blocks(outputs)}>"
            "(order, tiles, here.block_y());\n  if (tile.first_row == tile.end_row) return;\n  ",
            (("GLOBAL const int* order", grouping.order), ("GLOBAL const int* tiles", grouping.tiles)),
            (grouping.num_tiles,),
        )

    view = None if x in planning.rounded else planning.row_by_row(x)[2]
    multiply(planning, operation, operation.operands[3:], tiles_of, view=view, few=few, are_bounded=True)


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
