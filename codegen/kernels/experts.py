"""Mixtures of experts: choosing experts, and products of rows with the weights of those chosen.

A pair is a token and one of its k experts; pair ``token * k + place`` has that row among results. The pairs
of a step are put in an order in which each expert's stand together, tokens ascending: ``order`` int32
``[pairs]`` holds their numbers, ``starts`` int32 ``[experts + 1]`` where each expert's begin, and ``active``
int32 ``[experts + 1]`` how many experts have any, and then their numbers. A product goes over the active
experts alone, so that no other's weights are read. Their rows are cut into tiles as those of any other
product, so a row's bits depend neither on the batch nor on who shares its experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tvm import tirx

from .code_products import multiply_codes, rows_for, tile_rows
from .coded import CodedMatrix
from .isa import Isa, fma, intrinsic
from .layout import BLOCK, num_blocks
from .panel_choice import find_panels
from .quantize import quantize_row
from .row_codes import CodeRows, RowCodes
from .rows import Rows, columns, exponential, load_rows
from .script import Buffer, Expr, T, Vector, cast, kernel, load, store, symbol
from .tiles import Blocks, for_tiles, store_block

__all__ = [
    "Items",
    "Routing",
    "expert_linear_quantized",
    "group_by_expert",
    "grouping_arguments",
    "quantize_expert_rows",
    "route",
    "take_chosen",
    "weighted_sum",
]

_SPAN = 4
"""Blocks of one expert's weights, one after the other in memory, that a worker goes through at once."""

_FEW_SPANS = 32
"""With fewer spans than these, spans are of one block, so that all workers have some."""


@dataclass(frozen=True)
class Routing:
    """The attributes of the operator ``route``, and how many experts there are."""

    num_experts: int
    experts_per_token: int
    scores: str
    groups: int
    kept_groups: int
    group_terms: int
    normalize: bool
    scale: float
    jitter: float


def _number(value: tirx.Expr, scalar: str = "float32") -> Vector:
    """A new variable of this value."""
    variable = Vector(scalar, 1)
    variable.set(value)
    return variable


def route(isa: Isa, name: str, logits: Rows, routing: Routing, has_bias: bool) -> tirx.PrimFunc:
    """The experts of each row, best first, and their weights, as the operator ``route`` means it.

    Arguments: logits float32 ``[m, logits.stride]``, a bias float32 ``[experts]`` if there is one; results:
    experts int32 and weights float32 ``[m, k]``. Where logits are no numbers, the experts are any.
    """
    experts, count = routing.num_experts, routing.experts_per_token
    lowest = T.float32(float("-inf"))

    def body(rows: Buffer, *rest: Buffer) -> None:
        chosen, weights = rest[-2:]
        with T.parallel(rows.shape[0]) as row:
            values = T.alloc_buffer((experts,), "float32")  # what weights are made of
            ranked = T.alloc_buffer((experts,), "float32")  # what is left to choose from, and by what

            with T.serial(experts) as expert:
                store(values, expert, load_rows(rows, logits, row, expert))
            if routing.scores == "softmax":
                _softmax(isa, values, experts)
            elif routing.scores == "sigmoid":
                with T.serial(experts) as expert:
                    opened = T.float32(1) + exponential(isa, 1, T.float32(0) - load(values, expert))
                    store(values, expert, T.float32(1) / opened)
            with T.serial(experts) as expert:
                value = load(values, expert)
                store(ranked, expert, value + load(rest[0], expert) if has_bias else value)
            if routing.kept_groups < routing.groups:
                _keep_groups(ranked, routing)
            with T.serial(count) as place:
                best, largest = _number(T.int32(0), "int32"), _number(lowest)
                with T.serial(experts) as expert, T.If(load(ranked, expert) > largest.value), T.Then():
                    largest.set(load(ranked, expert))
                    best.set(cast("int32", 1, expert))
                store(chosen, (row, place), best.value)
                if routing.scores == "sparsemixer":
                    share = _share_of_best(isa, values, ranked, largest, routing)
                    store(weights, (row, place), share)
                else:
                    store(weights, (row, place), load(values, best.value))
                store(ranked, best.value, lowest)
            _finish_weights(isa, weights, row, routing)

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("logits", (m, logits.stride), "float32"),
        *([("bias", (experts,), "float32")] if has_bias else []),
        ("chosen", (m, count), "int32"),
        ("weights", (m, count), "float32"),
    ]
    return kernel(name, arguments, body)


def _softmax(isa: Isa, values: Buffer, experts: int) -> None:
    largest, total = _number(load(values, 0)), _number(T.float32(0))
    with T.serial(experts) as expert:
        largest.set(tirx.max(largest.value, load(values, expert)))
    with T.serial(experts) as expert:
        store(values, expert, exponential(isa, 1, load(values, expert) - largest.value))
        total.set(total.value + load(values, expert))
    with T.serial(experts) as expert:
        store(values, expert, load(values, expert) / total.value)


def _keep_groups(ranked: Buffer, routing: Routing) -> None:
    """Put experts of all but the best groups behind all others; of equal groups the first is better."""
    groups, size = routing.groups, routing.num_experts // routing.groups
    lowest = T.float32(float("-inf"))
    judged = T.alloc_buffer((groups,), "float32")
    with T.serial(groups) as group:
        first, second = _number(lowest), _number(lowest)
        with T.serial(size) as member:
            value = _number(load(ranked, group * size + member))
            second.set(tirx.max(second.value, tirx.min(first.value, value.value)))
            first.set(tirx.max(first.value, value.value))
        store(judged, group, first.value + second.value if routing.group_terms == 2 else first.value)
    with T.serial(groups) as group:
        num_better = _number(T.int32(0), "int32")
        with T.serial(groups) as other:
            mine, theirs = load(judged, group), load(judged, other)
            better = tirx.Or(theirs > mine, tirx.And(theirs == mine, other < group))
            num_better.set(num_better.value + cast("int32", 1, better))
        with T.If(num_better.value >= routing.kept_groups), T.Then(), T.serial(size) as member:
            store(ranked, group * size + member, lowest)


def _share_of_best(isa: Isa, logits: Buffer, ranked: Buffer, largest: Vector, routing: Routing) -> tirx.Expr:
    """The best one's part of the softmax of what is left, without those that are much worse."""
    total = _number(T.float32(0))
    with T.serial(routing.num_experts) as expert:
        logit = _number(load(logits, expert))
        magnitude = intrinsic("float32", "llvm.fabs.f32", logit.value)
        distance = (largest.value - logit.value) / tirx.max(magnitude, largest.value)
        weight = exponential(isa, 1, load(ranked, expert) - largest.value)
        far = distance > T.float32(2 * routing.jitter)
        total.set(total.value + tirx.Select(far, T.float32(0), weight))
    return T.float32(1) / total.value


def _finish_weights(isa: Isa, weights: Buffer, row: Expr, routing: Routing) -> None:
    count = routing.experts_per_token
    if routing.scores == "softmax_of_chosen":
        best, total = _number(load(weights, (row, 0))), _number(T.float32(0))
        with T.serial(count) as place:
            store(weights, (row, place), exponential(isa, 1, load(weights, (row, place)) - best.value))
            total.set(total.value + load(weights, (row, place)))
        with T.serial(count) as place:
            store(weights, (row, place), load(weights, (row, place)) / total.value)
    if routing.normalize:
        total = _number(T.float32(0))
        with T.serial(count) as place:
            total.set(total.value + load(weights, (row, place)))
        total.set(total.value + T.float32(1e-20))
        with T.serial(count) as place:
            store(weights, (row, place), load(weights, (row, place)) / total.value)
    if routing.scale != 1.0:
        with T.serial(count) as place:
            store(weights, (row, place), load(weights, (row, place)) * T.float32(routing.scale))


def group_by_expert(isa: Isa, name: str, experts: int, experts_per_token: int) -> tirx.PrimFunc:
    """Put a step's pairs in order by their experts: a counting sort.

    Arguments: the experts of each token int32 ``[m, k]``; results: ``order``, ``starts`` and ``active`` (see
    above).
    """

    def body(chosen: Buffer, order: Buffer, starts: Buffer, active: Buffer) -> None:
        tokens = chosen.shape[0]
        next_place = T.alloc_buffer((experts,), "int32")
        with T.serial(experts + 1) as expert:
            store(starts, expert, T.int32(0))
        with T.serial(tokens) as token, T.serial(experts_per_token) as place:
            after = _number(load(chosen, (token, place)) + 1, "int32")
            store(starts, after.value, load(starts, after.value) + 1)
        num_active = _number(T.int32(0), "int32")
        with T.serial(experts) as expert:
            with T.If(load(starts, expert + 1) > 0), T.Then():
                num_active.set(num_active.value + 1)
                store(active, num_active.value, cast("int32", 1, expert))
            store(next_place, expert, load(starts, expert))
            store(starts, expert + 1, load(starts, expert + 1) + load(starts, expert))
        store(active, 0, num_active.value)
        with T.serial(tokens) as token, T.serial(experts_per_token) as place:
            expert = _number(load(chosen, (token, place)), "int32")
            pair = cast("int32", 1, token * experts_per_token + place)
            store(order, load(next_place, expert.value), pair)
            store(next_place, expert.value, load(next_place, expert.value) + 1)

    arguments = [
        ("chosen", (symbol("m"), experts_per_token), "int32"),
        ("order", (symbol("pairs"),), "int32"),
        ("starts", (experts + 1,), "int32"),
        ("active", (experts + 1,), "int32"),
    ]
    return kernel(name, arguments, body)


def quantize_expert_rows(
    isa: Isa, name: str, x: Rows, layout: RowCodes, experts: int, experts_per_token: int, shared: bool
) -> tirx.PrimFunc:
    """What :func:`.quantize.quantize_rows` makes of rows, in the order of the pairs.

    Arguments: ``x`` float32, a row for each token where it is ``shared`` by its experts, or else for each
    pair; ``order``; results: codes, scales and sums as ``layout`` says, a row for each pair.
    """

    def body(rows: Buffer, order: Buffer, codes: Buffer, scales: Buffer, sums: Buffer) -> None:
        with T.parallel(codes.shape[0]) as position:
            pair = _number(cast("int64", 1, load(order, position)), "int64")
            source = pair.value // experts_per_token if shared else pair.value
            quantize_row(isa, x, layout, rows, (codes, scales, sums), source, position)

    pairs = symbol("pairs")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x", (symbol("rows"), x.stride), "float32"),
        ("order", (pairs,), "int32"),
        *layout.arguments(pairs, prefix=""),
    ]
    return kernel(name, arguments, body)


class Items:
    """How a product's work is cut: a worker takes a span of blocks, and in it expert after expert.

    So every worker has as much to do as the next, whichever experts are active. A span is as many blocks as
    are given, or else so many that all workers have some.
    """

    def __init__(self, outputs: int, starts: Buffer, active: Buffer, span: int | None = None) -> None:
        self._blocks = num_blocks(outputs)
        self._span = span or (_SPAN if self._blocks >= _SPAN * _FEW_SPANS else 1)
        self._starts, self._active = starts, active

    def each(self, emit: Callable[[Expr, Expr, Expr, Expr], None]) -> None:
        """Emit ``emit(block, the block's number among those of all experts, first position, rows)``."""

        def emit_blocks(panel: Blocks, first: Expr, num_rows: Expr) -> None:
            with T.serial(panel.count) as index:
                block = panel.first + index
                emit(block, panel.offset + block, first, num_rows)

        self.each_panel(emit_blocks)

    def each_panel(self, emit: Callable[[Blocks, Expr, Expr], None]) -> None:
        """Emit ``emit(blocks of an expert, first position, rows)``."""
        with T.parallel(self.num_spans) as item:
            self.of_span(item, emit)

    @property
    def num_spans(self) -> int:
        """How many spans there are."""
        return -(-self._blocks // self._span)

    def of_span(self, item: Expr, emit: Callable[[Blocks, Expr, Expr], None]) -> None:
        """Emit what :meth:`each_panel` does for one span."""
        with T.serial(load(self._active, 0)) as index:
            expert = _number(cast("int64", 1, load(self._active, index + 1)), "int64")
            first = _number(cast("int64", 1, load(self._starts, expert.value)), "int64")
            end = _number(cast("int64", 1, load(self._starts, expert.value + 1)), "int64")
            count = tirx.min(self._span, self._blocks - item * self._span)
            panel = Blocks(item * self._span, count, expert.value * self._blocks)
            emit(panel, first.value, end.value - first.value)


def expert_linear_quantized(
    isa: Isa,
    name: str,
    experts: int,
    matrix: CodedMatrix,
    has_bias: bool,
) -> tirx.PrimFunc:
    """Rows of codes, in the order of the pairs, times the weights of each one's expert.

    Arguments: activations as :func:`quantize_expert_rows` leaves them, ``order``, ``starts``, ``active``, the
    matrix' own, each expert's blocks after those of the one before, a bias float32
    ``[experts * blocks * 16]`` if there is one; the result float32 ``[pairs, outputs]``.
    """
    outputs, layout = matrix.outputs, rows_for(matrix)

    def body(
        x_codes: Buffer,
        x_scales: Buffer,
        x_sums: Buffer,
        order: Buffer,
        starts: Buffer,
        active: Buffer,
        *rest: Buffer,
    ) -> None:
        weights, (*bias, out) = rest[: matrix.num_arguments], rest[matrix.num_arguments :]
        rows, added = CodeRows(layout, (x_codes, x_scales, x_sums)), bias[0] if bias else None

        choice = find_panels(isa, matrix)
        items = Items(outputs, starts, active, None if choice is None else choice.blocks)

        def store_row(first: Expr, row: Expr, block: Expr, results: list[Vector]) -> None:
            pair = cast("int64", 1, load(order, (first + row,)))
            store_block(isa, out, pair, block, outputs, None, results)

        def by_tiles(panel: Blocks, first: Expr, num_rows: Expr) -> None:
            with T.serial(panel.count) as index:
                block = panel.first + index

                def tile(height: int, row: Expr) -> None:
                    def finish(m: int, results: list[Vector]) -> None:
                        store_row(first, row + m, block, results)

                    x, stored = rows.at(first), panel.offset + block
                    multiply_codes(isa, matrix, x, weights, stored, row, height, finish, added)

                for_tiles(num_rows, tile_rows(isa, matrix), tile)

        if choice is None:
            items.each_panel(by_tiles)
            return
        with T.parallel(items.num_spans) as item:
            memory = choice.memory(matrix.inputs)
            choice.product.enter()

            def multiply(panel: Blocks, first: Expr, num_rows: Expr) -> None:
                with T.If(num_rows < choice.least_rows):
                    with T.Then():
                        by_tiles(panel, first, num_rows)
                    with T.Else():
                        x, place, store_of = rows.at(first), (item, panel.offset), partial(store_row, first)
                        choice.multiply(isa, matrix, x, num_rows, weights, place, memory, store_of, added)

            items.of_span(item, multiply)
            choice.product.leave()

    pairs, blocks = symbol("pairs"), experts * num_blocks(outputs)
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        *layout.arguments(pairs),
        *grouping_arguments(pairs, experts),
        *matrix.arguments(blocks),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (pairs, outputs), "float32"),
    ]
    return kernel(name, arguments, body)


def grouping_arguments(pairs: Expr, experts: int) -> list[tuple[str, tuple[Expr, ...], str]]:
    """Arguments that :func:`group_by_expert` gives."""
    return [
        ("order", (pairs,), "int32"),
        ("starts", (experts + 1,), "int32"),
        ("active", (experts + 1,), "int32"),
    ]


def take_chosen(isa: Isa, name: str, x: Rows, count: int) -> tirx.PrimFunc:
    """Of each row the ``count`` elements whose numbers are given.

    Arguments: ``x`` float32 ``[m, x.stride]``, numbers int32 ``[m, count]``; the result ``[m, count]``.
    """

    def body(rows: Buffer, chosen: Buffer, out: Buffer) -> None:
        with T.parallel(out.shape[0]) as row, T.serial(count) as place:
            store(out, (row, place), load_rows(rows, x, row, load(chosen, (row, place), 1), 1), 1)

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x", (m, x.stride), "float32"),
        ("chosen", (m, count), "int32"),
        ("out", (m, count), "float32"),
    ]
    return kernel(name, arguments, body)


def weighted_sum(isa: Isa, name: str, x: Rows, weights: Rows) -> tirx.PrimFunc:
    """Sums of each token's pairs, first to last, times their weights.

    Arguments: ``x`` float32 ``[pairs, x.stride]``, weights float32 ``[m, weights.stride]``; the result
    ``[m, x.width]``.
    """
    count = weights.width

    def body(rows: Buffer, factors: Buffer, out: Buffer) -> None:
        with T.parallel(out.shape[0]) as row:

            def add_up(column: Expr, width: int) -> None:
                total = Vector("float32", width)
                total.fill(T.float32(0))
                with T.serial(count) as place:
                    factor = Vector("float32", width)
                    factor.fill(load_rows(factors, weights, row, place))
                    value = load_rows(rows, x, row * count + place, column, width)
                    total.set(fma(width, factor.value, value, total.value))
                store(out, (row, column), total.value, width)

            columns(isa, x.width, add_up)

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x", (symbol("pairs"), x.stride), "float32"),
        ("weights", (m, weights.stride), "float32"),
        ("out", (m, x.width), "float32"),
    ]
    return kernel(name, arguments, body)
