"""Layers with a state: short convolutions and recurrences, over slots of state (``sources/recurrent.h``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ....ir import Operation, Value
from ....targets.launch_plan import Argument
from ..planning import Planning, Region, Rule, row_type, size_of
from .batch import MAKE_BATCH, batch_arguments

__all__ = ["RULES"]

_CHANNELS, _LEAST_TOKENS = 128, 8
"""Threads of a convolution's block, and tokens that it takes."""

_WARPS, _LEAST_PARTS, _FOURS = 4, 4, 16
"""Warps of a recurrence's block, lanes that share a column, and the fours of a state that one may have."""

_MOST_TOKENS, _MOST_BYTES = 16, 24 << 10
"""Tokens whose rows a recurrence has in shared memory, and what these take there."""

_COLUMNS, _AHEAD = 128, 4
"""Threads of a block where a state is one number a column, and tokens it loads at once."""


def _slots(planning: Planning, operation: Operation) -> Argument:
    """The array of the slots that an operation reads and writes."""
    slots, written = operation.operands[0], operation.results[0]
    array = planning.keep_state(slots.name, slots.type.shape, slots.type.scalar.value)
    planning.states[slots] = planning.states[written] = array
    return array


def _paged_conv(planning: Planning, operation: Operation) -> None:
    _, x, weight, *rest = operation.operands
    described, biases = rest[:3], rest[3:]
    region, taps = planning.region(x), int(weight.type.shape[0])
    slots, (_, result) = _slots(planning, operation), operation.results
    users = planning.graph.users.get(result, ())
    activation = "Same"
    if len(users) == 1 and users[0].operator == "silu" and result not in planning.graph.outputs:
        activation, result = "Silu", users[0].result
    out = planning.result(result, region.rows, region.view.width)
    tokens = max(_LEAST_TOKENS, taps - 1)
    shape = f"{_CHANNELS}, {tokens}, {row_type(region.view)}, {taps}, {operation.attributes['page_size']}"
    body = (
        f"{MAKE_BATCH}convolve<{shape}, {str(bool(biases)).lower()}, {activation}>"
        f"(here, slots, x, weight, {'bias' if biases else 'nullptr'}, batch, out);"
    )
    arguments = [
        ("GLOBAL float* slots", slots),
        ("GLOBAL const float* x", region.array),
        ("GLOBAL const float* weight", planning.parameter(weight)),
        *(("GLOBAL const float* bias", planning.parameter(bias)) for bias in biases),
        *batch_arguments(planning, described),
        ("GLOBAL float* out", out.array),
    ]
    tiles = size_of(region.rows, over=tokens, plus=("sequences",))
    blocks = size_of(-(-region.view.width // _CHANNELS))
    planning.launch("convolve", body, arguments, (tiles, blocks), _CHANNELS)


def _paged_scan(planning: Planning, operation: Operation) -> None:
    _, x, steps, b, c, decay, skip, bias, *described = operation.operands
    rows = {"x": x, "steps": steps, "key": b, "query": c}
    _recur(planning, operation, rows, {"decay": decay, "skip": skip, "bias": bias}, described)


def _paged_delta(planning: Planning, operation: Operation) -> None:
    _, q, k, v, steps, rates, decay, bias, *described = operation.operands
    rows = {"x": v, "steps": steps, "key": k, "query": q, "rates": rates}
    _recur(planning, operation, rows, {"decay": decay, "bias": bias}, described)


def _recur(
    planning: Planning,
    operation: Operation,
    rows: Mapping[str, Value],
    by_head: Mapping[str, Value],
    described: Sequence[Value],
) -> None:
    """Launch a recurrence over ``rows``, with one number a head ``by_head``, under their templates' names."""
    slots, result = operation.operands[0], operation.results[1]
    heads, state, width = (int(dim) for dim in slots.type.shape[1:])
    groups, page_size = int(rows["key"].type.shape[1]), cast(int, operation.attributes["page_size"])
    regions = {name: planning.region(value) for name, value in rows.items()}
    array = _slots(planning, operation)
    out = planning.result(result, regions["x"].rows, heads * width)
    corrects = "rates" in rows
    parts = _LEAST_PARTS
    while parts < 32 and -(-state // (4 * parts)) > _FOURS:
        parts *= 2
    fours, columns = -(-state // (4 * parts)), 32 // parts
    tile = _MOST_TOKENS
    while tile > 1 and tile * 4 * (8 * fours * parts + _WARPS * columns + 2) > _MOST_BYTES:
        tile //= 2
    flag = str(corrects).lower()
    shape = f"State<{heads}, {state}, {width}, {groups}, {page_size}, {parts}, {tile}, {flag}>"
    arguments = [
        ("GLOBAL float* slots", array),
        *((f"GLOBAL const float* {name}", region.array) for name, region in regions.items()),
        *((f"GLOBAL const float* {name}", planning.parameter(value)) for name, value in by_head.items()),
        *batch_arguments(planning, described),
        ("GLOBAL float* out", out.array),
    ]
    given = "decay, {}, bias, batch, out);".format("skip" if "skip" in by_head else "nullptr")
    if state == 1 and not corrects:
        views = _views(regions, ("x", "steps", "key", "query"))
        body = (
            f"{MAKE_BATCH}walk_columns<{_COLUMNS}, {_AHEAD}, {shape}, {views}>"
            f"(here, slots, x, steps, key, query, {given}"
        )
        blocks = size_of(-(-heads * width // _COLUMNS))
        planning.launch("walk_columns", body, arguments, (blocks, size_of("sequences")), _COLUMNS)
        return
    if not corrects:
        regions["rates"] = regions["steps"]  # which are not read
    views = _views(regions, ("x", "steps", "key", "query", "rates"))
    strip = _WARPS * columns
    body = (
        f"{MAKE_BATCH}SHARED_ARRAY(float4, keys, [{tile}][{fours * parts}]); "
        f"SHARED_ARRAY(float4, queries, [{tile}][{fours * parts}]); "
        f"SHARED_ARRAY(float, columns, [{tile}][{strip}]); SHARED_ARRAY(float, factors, [{tile}][2]); "
        f"walk<{_WARPS}, {shape}, {views}>(here, keys, queries, columns, factors, slots, x, steps, key, "
        f"query, {'rates' if corrects else 'nullptr'}, {given}"
    )
    blocks = size_of(heads * -(-width // strip))
    planning.launch("walk", body, arguments, (blocks, size_of("sequences")), 32 * _WARPS)


def _views(regions: Mapping[str, Region], names: Sequence[str]) -> str:
    return ", ".join(row_type(regions[name].view) for name in names)


RULES: Mapping[str, Rule] = {
    "paged_conv": _paged_conv,
    "paged_delta": _paged_delta,
    "paged_scan": _paged_scan,
}
"""By operator."""
