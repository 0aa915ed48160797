"""Pairs of tokens and experts, in the order of their experts."""

from __future__ import annotations

from dataclasses import dataclass

from ....ir import Value
from ....targets.launch_plan import Argument, Bound, Size
from ..planning import Grouping, Planning, size_of

__all__ = ["Pairs"]

_FEW_THREADS, _MANY_THREADS = 32, 256


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs that a product of experts multiplies.

    Attributes:
        chosen: the experts of each token.
        experts: how many there are.
        count: how many a token has.
        each: how many pairs of a token have the same row: all, or each its own.
    """

    chosen: Value
    experts: int
    count: int
    each: int

    @property
    def num_rows(self) -> tuple[str, Argument]:
        """A kernel's argument for how many tokens there are."""
        return "int num_rows", Argument("symbol", str(self.chosen.type.shape[0]))

    def group(self, planning: Planning, rows_at_once: int, bound: Bound, *, by_position: bool) -> Grouping:
        """A step's pairs in order and cut into tiles, for kernels that are launched within the bound."""
        key = self.chosen, self.experts, rows_at_once, by_position
        if key not in planning.groupings:
            rows, threads = self.chosen.type.shape[0], _FEW_THREADS if by_position else _MANY_THREADS
            num_tiles = size_of(rows, self.count)
            if not by_position:  # each expert may have one that is not full
                num_tiles = Size(self.count, (str(rows),), rows_at_once, more=self.experts)
            order = planning.new_array(size_of(rows, self.count), 4)
            tiles = planning.new_array(num_tiles, 16)
            body = (
                f"SHARED_ARRAY(int, parts, [{threads // 32}][2]); "
                f"group_pairs<{threads}, {rows_at_once}, {str(by_position).lower()}>"
                f"(here, parts, chosen, order, tiles, num_rows * {self.count});"
            )
            arguments = [
                ("GLOBAL const int* chosen", planning.plain[self.chosen]),
                ("GLOBAL int* order", order),
                ("GLOBAL int* tiles", tiles),
                self.num_rows,
            ]
            planning.launch("group_pairs", body, arguments, (size_of(self.experts),), threads, (bound,))
            planning.groupings[key] = Grouping(order, tiles, num_tiles)
        return planning.groupings[key]
