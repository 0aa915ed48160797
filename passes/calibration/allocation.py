"""The cheapest formats for weights that together shall take so many bytes, or cost so much accuracy.

Every weight has some choices, each with its bytes and its loss. Of those only the ones on the lower convex
hull can be best at any price of a byte. From the smallest choices on, the step that lowers the loss most for
its bytes is taken again and again: what results is optimal for the bytes it takes, and short of a given
number of bytes by less than one step (Everett's Lagrange multipliers, 1963).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.errors import CompileError

__all__ = ["Choice", "allocate"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One format for a weight, None to leave it: the bytes it takes, and what it costs."""

    format: str | None
    num_bytes: int
    loss: float


def allocate(
    weights: Sequence[Sequence[Choice]], *, max_bytes: int | None = None, max_loss: float | None = None
) -> list[Choice]:
    """One choice for each weight: the least loss within ``max_bytes``, or the fewest bytes for ``max_loss``.

    With both, bytes are spent until the loss is small enough or there are no more of them. Raises
    :class:`CompileError` where a bound cannot be kept.
    """
    hulls = [_hull(choices) for choices in weights]
    places = [0] * len(hulls)
    num_bytes = sum(hull[0].num_bytes for hull in hulls)
    loss = sum(hull[0].loss for hull in hulls)
    if max_bytes is not None and num_bytes > max_bytes:
        raise CompileError(
            f"the weights take {num_bytes} bytes in the smallest formats there are to choose from, and "
            f"shall take {max_bytes}"
        )
    steps = [(_slope(hull, 0), index) for index, hull in enumerate(hulls) if len(hull) > 1]
    heapq.heapify(steps)
    while steps and (max_loss is None or loss > max_loss):
        _, index = heapq.heappop(steps)
        hull, place = hulls[index], places[index]
        more = hull[place + 1].num_bytes - hull[place].num_bytes
        if max_bytes is not None and num_bytes + more > max_bytes:
            continue
        num_bytes += more
        loss += hull[place + 1].loss - hull[place].loss
        places[index] += 1
        if place + 2 < len(hull):
            heapq.heappush(steps, (_slope(hull, place + 1), index))
    if max_loss is not None and loss > max_loss:
        bound = "" if max_bytes is None else f" within {max_bytes} bytes"
        raise CompileError(f"the weights cost {loss:.3g} nats{bound} at best, and shall cost {max_loss:.3g}")
    return [hull[place] for hull, place in zip(hulls, places, strict=True)]


def _slope(hull: Sequence[Choice], place: int) -> float:
    """Loss a byte of the step from ``place``: the least is the best."""
    first, second = hull[place], hull[place + 1]
    return (second.loss - first.loss) / (second.num_bytes - first.num_bytes)


def _hull(choices: Sequence[Choice]) -> list[Choice]:
    """Choices that lose less than every smaller one, and least for their bytes; by bytes."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.num_bytes, choice.loss)):
        if hull and choice.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _slope([hull[-2], choice], 0) <= _slope(hull, len(hull) - 2):
            hull.pop()
        hull.append(choice)
    return hull
