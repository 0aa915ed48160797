"""Rotary embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Module, Operation, ScalarType, TensorType, Value
from .base import Pass, Rewritten
from .patterns import Match, Wildcard, apply, match
from .rewriting import GraphRewriter, ModuleRewriter

__all__ = ["FuseRope"]

_X = Wildcard("x")
_SECOND = apply("slice", _X, name="second", axis=2)
_FIRST = apply("slice", _X, name="first", axis=2)
_ROTATED = apply("concat", apply("neg", _SECOND), _FIRST, axis=2)
_ROPE = apply(
    "add",
    apply("mul", _X, apply("reshape", Wildcard("cosines"))),
    apply("mul", _ROTATED, apply("reshape", Wildcard("sines"))),
)

_UNARY = frozenset({"cos", "sin", "neg", "cast"})
_BINARY = frozenset({"add", "sub", "mul", "div"})


@dataclass(frozen=True)
class FuseRope(Pass):
    """``x * cos + rotate_half(x) * sin`` becomes ``rope`` over tables of half a head's width.

    That both halves of the tables are alike is read off the graph: they are ``concat(a, a)``, or elementwise
    functions of that and of single numbers.
    """

    name: ClassVar[str] = "fuse_rope"
    requires: ClassVar[tuple[str, ...]] = ("plain", "fused")
    ensures: ClassVar[str | None] = "fused"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        rewriter = ModuleRewriter(module)
        halves = _Halves(module, rewriter.forward)
        found = {
            operation: rope
            for operation in graph.operations
            if operation.operator == "add"
            and (rope := match(_ROPE, operation, graph))
            and _is_rope(rope, halves)
        }
        if not found:
            return Rewritten(module)

        def fuse(operation: Operation, rope: Match) -> None:
            cosines, sines = halves.half_of(rope["cosines"]), halves.half_of(rope["sines"])
            rewriter.forward.emit("rope", rope["x"], cosines, sines, replaces=operation.result)

        rewriter.forward.apply(
            {operation: partial(fuse, operation, rope) for operation, rope in found.items()}
        )
        return Rewritten(rewriter.finish())


def _is_rope(rope: Match, halves: _Halves) -> bool:
    rows = rope["x"].type
    if rows.rank != 3 or rows.element is not ScalarType.FLOAT32:
        return False
    tokens, _, width = rows.shape
    if not isinstance(width, int) or width % 2:
        return False
    cuts = [[rope.attribute(name, key) for key in ("start", "stop")] for name in ("first", "second")]
    table = TensorType((tokens, width), ScalarType.FLOAT32)
    return cuts == [[0, width // 2], [width // 2, width]] and all(
        rope[name].type == table and halves.has_equal_halves(rope[name]) for name in ("cosines", "sines")
    )


class _Halves:
    """First halves of tables ``[tokens, 2 * n]`` whose halves are equal, each made once."""

    def __init__(self, module: Module, rewriter: GraphRewriter) -> None:
        self._producers = module.forward.producers
        self._rewriter = rewriter
        self._made: dict[Value, Value] = {}

    def has_equal_halves(self, table: Value) -> bool:
        """Whether the graph shows that both halves of ``table`` are alike."""
        operation = self._producers.get(table)
        if operation is None:
            return False
        operands = operation.operands
        if operation.operator == "concat":
            return operation.attributes["axis"] == 1 and len(operands) == 2 and operands[0] is operands[1]
        if operation.operator in _UNARY:
            return self.has_equal_halves(operands[0])
        if operation.operator in _BINARY:
            return all(_is_number(x) or (x.type.rank == 2 and self.has_equal_halves(x)) for x in operands)
        return False

    def half_of(self, table: Value) -> Value:
        """The first half of a table with equal halves."""
        if table not in self._made:
            self._made[table] = self._make(self._producers[table])
        return self._made[table]

    def _make(self, operation: Operation) -> Value:
        if operation.operator == "concat":
            return operation.operands[0]
        operands = [x if _is_number(x) else self.half_of(x) for x in operation.operands]
        return self._rewriter.emit_all(operation.operator, operands, operation.attributes)[0]


def _is_number(value: Value) -> bool:
    return all(dim == 1 for dim in value.type.shape)
