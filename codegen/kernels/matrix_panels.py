"""Panels by products of matrices of bytes, as Armv8.6 has them: two rows, two outputs, eight inputs at once.

Two lines of a panel, eight inputs of 16 outputs, lie there as the instruction takes them: the eight of the
first output, those of the second, and so on. A register tile is four rows and a block: 16 registers of sums,
eight of weights and two of rows. For 16 inputs that is 32 products, of which a Neoverse V1 begins four in a
cycle, 20 loads, of which it does three, and four shuffles that bring rows together and compete with products:
an eighth of their time. (Counted, not measured.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from .coded import CodedWeights
from .isa import NeonI8mm
from .layout import BLOCK
from .panels import Finish, Panel, PanelProduct
from .row_codes import LINE_BYTES, CodeRows
from .script import Buffer, Expr, T, Vector, load, reinterpret, store

__all__ = ["MatrixPanels"]

_ROWS = 4
_BYTES = 16
"""Bytes in a register."""

_LOW, _HIGH = (0, 1, 4, 5), (2, 3, 6, 7)
"""The lower halves of two registers of four words, and their higher halves."""


def _words(first: tirx.Expr, second: tirx.Expr, places: tuple[int, ...]) -> tirx.Expr:
    """Words of two registers of four."""
    return tirx.Shuffle([first, second], list(places))


@dataclass(frozen=True)
class MatrixPanels(PanelProduct):
    """Four rows at a time, the last of them with some of those before again."""

    isa: NeonI8mm

    least_rows: ClassVar[int] = 8
    """Rows from which on this is faster than dot products."""

    @property
    def zero_point(self) -> int:
        """Bytes are signed."""
        return 0

    @property
    def blocks(self) -> int:
        """One fills the registers."""
        return 1

    def write(self, reader: CodedWeights, panel: Panel, memory: Buffer, block: Expr) -> None:
        """See the base class."""
        super().write(reader, panel, memory, block)
        self._arrange(panel, memory, block)

    def _arrange(self, panel: Panel, memory: Buffer, block: Expr) -> None:
        """Bring the inputs of two lines together, output by output."""
        with T.serial(panel.num_lines // 2) as pair:
            pieces = [Vector("int32", 4) for _ in range(2 * LINE_BYTES // _BYTES)]
            for number, piece in enumerate(pieces):
                bytes_ = load(memory, panel.place(block, 2 * pair, number * _BYTES), _BYTES)
                piece.set(reinterpret("int32x4", bytes_))
            half = len(pieces) // 2
            for number in range(half):
                even, odd = pieces[number].value, pieces[half + number].value
                for side, places in enumerate(((0, 4, 1, 5), (2, 6, 3, 7))):
                    place = panel.place(block, 2 * pair, (2 * number + side) * _BYTES)
                    store(memory, place, reinterpret("uint8x16", _words(even, odd, places)), _BYTES)

    def multiply(self, panel: Panel, memory: Buffer, x: CodeRows, num_rows: Expr, finish: Finish) -> None:
        """See the base class; there are at least four rows."""
        with T.serial((num_rows + _ROWS - 1) // _ROWS) as index:
            row = Vector("int64", 1)
            row.set(tirx.min(index * _ROWS, num_rows - _ROWS))
            with T.serial(panel.blocks) as block:
                self._tile(panel, memory, x, row.value, block, finish)

    def _tile(
        self, panel: Panel, memory: Buffer, x: CodeRows, row: Expr, block: Expr, finish: Finish
    ) -> None:
        pairs, outputs = range(_ROWS // 2), range(BLOCK // 2)
        sums = [[Vector("int32", 4) for _ in outputs] for _ in pairs]
        for vector in (v for vectors in sums for v in vectors):
            vector.fill(T.int32(0))
        with T.serial(-(-panel.inputs // 16)) as step:
            rows = [[Vector("int32", 4) for _ in range(2)] for _ in pairs]
            for pair in pairs:
                first, second = (x.fours(row + 2 * pair + m, step * 4, 4) for m in range(2))
                for half, places in enumerate((_LOW, _HIGH)):
                    rows[pair][half].set(_words(first, second, places))
            for half in range(2):
                for output in outputs:
                    place = panel.place(block, step * 4 + 2 * half, output * _BYTES)
                    weights = Vector("int32", 4)
                    weights.set(reinterpret("int32x4", load(memory, place, _BYTES)))
                    for pair in pairs:
                        total = sums[pair][output]
                        total.set(self.isa.multiply_pairs(total.value, rows[pair][half].value, weights.value))
        for pair in pairs:
            for m, places in enumerate((_LOW, _HIGH)):
                results = [Vector("int32", 4) for _ in range(BLOCK // 4)]
                for part, result in enumerate(results):
                    first, second = sums[pair][2 * part].value, sums[pair][2 * part + 1].value
                    result.set(_words(first, second, places))
                finish(row + 2 * pair + m, block, results)
