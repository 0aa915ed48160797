"""Panels: weights of a few blocks as one byte each, written once and multiplied with all rows.

Where there are many rows, unpacking a block's weights for every few of them costs more than multiplying. So a
worker widens the weights of a *panel*, some neighbouring blocks, into memory of its own that its second cache
holds, and then multiplies all rows with it. Weights here are whole numbers of eight bits in all, a small
whole scale multiplied in, so that a row's sums are exact in int32, whatever the order and the machine.

Bytes lie ``[block][line][16 outputs][4 inputs]``: a line of 64 bytes is what four inputs meet, and 16 lines
are a tile of 64 inputs and 16 outputs. Lines are filled up with weights of zero to whole such tiles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .coded import CodedWeights
from .row_codes import LINE_BYTES, CodeRows
from .script import Buffer, Expr, Vector
from .widening import widen_block

__all__ = ["Finish", "Panel", "PanelProduct"]

LINES_OF_TILE = 16
"""Lines that are filled up together."""

Finish: TypeAlias = Callable[[Expr, Expr, list[Vector]], None]
"""Is given a row, a block's number within the panel, and 16 exact sums of weights, that the bytes stand
for, times codes: int32, in as many vectors as they take."""


@dataclass(frozen=True)
class Panel:
    """The weights of ``blocks`` blocks of 16 outputs and ``inputs``."""

    blocks: int
    inputs: int

    @property
    def num_lines(self) -> int:
        """Lines of a block."""
        return -(-self.inputs // (4 * LINES_OF_TILE)) * LINES_OF_TILE

    @property
    def num_bytes(self) -> int:
        """Bytes of all."""
        return self.blocks * self.num_lines * LINE_BYTES

    def place(self, block: Expr, line: Expr, byte: Expr = 0) -> Expr:
        """Where a byte of a line lies."""
        return (block * self.num_lines + line) * LINE_BYTES + byte


class PanelProduct(ABC):
    """How a machine multiplies rows with a panel."""

    @property
    @abstractmethod
    def zero_point(self) -> int:
        """The byte of a weight of zero: 128 where bytes are unsigned, 0 where they are signed."""

    @property
    @abstractmethod
    def blocks(self) -> int:
        """Blocks that are multiplied together: a panel's are a multiple of them."""

    def panel(self, blocks: int, inputs: int) -> Panel:
        """A panel, as this product lays it out."""
        return Panel(blocks, inputs)

    def write(self, reader: CodedWeights, panel: Panel, memory: Buffer, block: Expr) -> None:
        """Emit what writes the block that ``reader`` reads as block ``block`` of a panel."""
        widen_block(reader, panel, memory, block, self.zero_point)

    def enter(self) -> None:  # noqa: B027 - most have nothing to do
        """Emit what a worker has to do before its panels."""

    def leave(self) -> None:  # noqa: B027
        """Emit what a worker has to do after its panels."""

    @abstractmethod
    def multiply(self, panel: Panel, memory: Buffer, x: CodeRows, num_rows: Expr, finish: Finish) -> None:
        """Emit the products of ``num_rows`` rows with a panel in ``memory`` (uint8, ``panel.num_bytes``).

        There are at least as many rows as the threshold of panels says. ``finish`` is called for every row
        and block, some perhaps twice, with the same sums.
        """
