"""Each router's choice once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Module, Operation
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["MergeRoutes"]

_OF_WEIGHTS = frozenset({"normalize", "scale"})
"""Attributes that the chosen experts do not depend on."""


@dataclass(frozen=True)
class MergeRoutes(Pass):
    """``route``s that choose the same experts become one, where the weights of one alone are used.

    A model that was traced chooses experts before it is known how it makes their weights.
    """

    name: ClassVar[str] = "merge_routes"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        alike: dict[Hashable, list[Operation]] = {}
        for operation in graph.operations:
            if operation.operator == "route":
                choice = sorted((k, v) for k, v in operation.attributes.items() if k not in _OF_WEIGHTS)
                alike.setdefault((operation.operands, tuple(choice)), []).append(operation)
        used = {operand for operation in graph.operations for operand in operation.operands}
        used.update(graph.outputs)
        merged: list[tuple[list[Operation], Operation]] = []
        for routes in alike.values():
            weighing = [route for route in routes if route.results[1] in used] or routes[:1]
            if len(routes) > 1 and len(weighing) == 1:
                merged.append((routes, weighing[0]))
        if not merged:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)

        def merge(routes: list[Operation], weighing: Operation) -> None:
            results = rewriter.forward.emit_all(
                "route", weighing.operands, weighing.attributes, replaces=weighing.results
            )
            for route in routes:
                for old, new in zip(route.results, results, strict=True):
                    rewriter.forward.replace(old, new)

        rules: dict[Operation, Callable[[], None]] = {}
        for same, weighing_one in merged:
            rules.update(dict.fromkeys(same, lambda: None))
            rules[same[0]] = partial(merge, same, weighing_one)
        rewriter.forward.apply(rules)
        return Rewritten(rewriter.finish())
