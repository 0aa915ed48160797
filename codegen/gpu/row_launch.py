"""Kernels whose blocks each take a row, one after the other in one launch: a block reads what it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...targets.launch_plan import Argument, Bound, Size

__all__ = ["RowLaunch"]

_Arguments = Sequence[tuple[str, Argument]]


@dataclass(frozen=True, slots=True)
class RowLaunch:
    """A launch whose blocks read, of what other launches compute, their own row alone.

    ``arguments`` are declarations, each of a name of its own, and what is given; ``rows``: see launch.
    """

    name: str
    body: str
    arguments: tuple[tuple[str, Argument], ...]
    grid: tuple[Size, ...]
    threads: int
    bounds: tuple[Bound, ...]
    rows: Argument | None = None

    def then(self, other: RowLaunch) -> RowLaunch | None:
        """Both in one launch, None where they are not of the same blocks."""
        if (self.grid, self.threads, self.bounds) != (other.grid, other.threads, other.bounds):
            return None
        first, taken = self.arguments, len(self.arguments)
        body = self.body
        if not self.body.startswith("{"):
            first, body = _apart(self, 0)
        second, next_body = _apart(other, taken)
        return RowLaunch(
            f"{self.name}_{other.name}",
            f"{body} block_barrier(); {next_body}",
            (*first, *second),
            self.grid,
            self.threads,
            self.bounds,
        )


def _apart(launch: RowLaunch, taken: int) -> tuple[tuple[tuple[str, Argument], ...], str]:
    """Arguments under names that no other has, and the statements, which find them under theirs."""
    renamed, known = [], []
    for number, (declaration, argument) in enumerate(launch.arguments, taken):
        renamed.append((f"{declaration.rpartition(' ')[0]} given{number}", argument))
        known.append(f"{declaration} = given{number};")
    return tuple(renamed), f"{{ {' '.join(known)} {launch.body} }}"
