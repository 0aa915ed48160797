"""Rows of activations as codes: how they lie in memory, and how products read them.

A row is int8, filled up with zeros to an odd number of lines of 64 bytes, so that whole lines can be read of
it, and that rows which follow each other do not fall into the same places of a cache. Beside it lie its
scales, float32, and sums of its codes, int32: a product takes what a zero point adds off by these.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .script import Buffer, Expr, T, load

__all__ = ["LINE_BYTES", "CodeRows", "RowCodes"]

LINE_BYTES = 64
"""Bytes of a line of cache, and of what one instruction takes at most."""


@dataclass(frozen=True)
class RowCodes:
    """What rows of codes are: ``pieces`` of ``inputs`` elements side by side, each rounded by itself.

    Every ``group_size`` elements of a piece share a scale, and every ``sum_size`` of them have a sum; after
    these comes the sum of the whole piece. Heads are pieces; other rows are of one.
    """

    inputs: int
    group_size: int
    sum_size: int
    pieces: int = 1

    @property
    def width(self) -> int:
        """Codes in a row."""
        return self.pieces * self.inputs

    @property
    def stride(self) -> int:
        """Bytes from a row to the next; the last piece can be read in whole lines."""
        lines = -(
            -((self.pieces - 1) * self.inputs + -(-self.inputs // LINE_BYTES) * LINE_BYTES) // LINE_BYTES
        )
        return LINE_BYTES * (lines | 1)

    @property
    def num_groups(self) -> int:
        """Scales of a piece."""
        return self.inputs // self.group_size

    @property
    def num_sums(self) -> int:
        """Sums of a piece, that of all its codes last."""
        return self.inputs // self.sum_size + 1

    @property
    def columns(self) -> tuple[tuple[str, int, str], ...]:
        """The arrays that hold rows: name, columns and dtype of each."""
        return (
            ("codes", self.stride, "int8"),
            ("scales", self.pieces * self.num_groups, "float32"),
            ("sums", self.pieces * self.num_sums, "int32"),
        )

    def arguments(self, rows: Expr, prefix: str = "x_") -> list[tuple[str, tuple[Expr, ...], str]]:
        """A kernel's arguments that hold ``rows`` of them."""
        return [(prefix + name, (rows, columns), dtype) for name, columns, dtype in self.columns]


class CodeRows:
    """Rows of codes in the ``buffers`` of :meth:`RowCodes.arguments`, one piece of each: what products read.

    Rows count from ``first_row`` on.
    """

    def __init__(
        self,
        layout: RowCodes,
        buffers: tuple[Buffer, Buffer, Buffer],
        *,
        first_row: Expr = 0,
        piece: Expr = 0,
    ) -> None:
        self.layout = layout
        self._codes, self._scales, self._sums = buffers
        shape = self._codes.shape[0], layout.stride // 4
        self._words = T.decl_buffer(shape, "int32", data=self._codes.data)
        self._first_row, self._piece = first_row, piece

    def at(self, first_row: Expr = 0, piece: Expr = 0) -> CodeRows:
        """The same from another row on, or of another piece."""
        moved = object.__new__(CodeRows)
        moved.__dict__.update(self.__dict__)
        moved._first_row, moved._piece = first_row, piece
        return moved

    def four(self, row: Expr, number: Expr) -> tirx.Expr:
        """Four neighbouring codes as one int32."""
        return self.fours(row, number, 1)

    def fours(self, row: Expr, number: Expr, count: int) -> tirx.Expr:
        """Neighbouring fours, an int32 each."""
        column = self._piece * (self.layout.inputs // 4) + number
        return load(self._words, (self._first_row + row, column), count)

    def address(self, row: Expr, column: Expr) -> tirx.Expr:
        """Where the code of a column lies; rows are :attr:`RowCodes.stride` bytes apart."""
        place = self._first_row + row, self._piece * self.layout.inputs + column
        return T.address_of(load(self._codes, place))

    def scale(self, row: Expr, group: Expr = 0) -> tirx.Expr:
        """A group's scale."""
        return load(self._scales, (self._first_row + row, self._piece * self.layout.num_groups + group))

    def sum(self, row: Expr, first: Expr, count: int = 1) -> tirx.Expr:
        """The sum of the codes of ``count`` neighbouring sums."""
        base = self._piece * self.layout.num_sums + first
        total = load(self._sums, (self._first_row + row, base))
        for further in range(1, count):
            total = total + load(self._sums, (self._first_row + row, base + further))
        return total

    def total(self, row: Expr) -> tirx.Expr:
        """The sum of all codes of the piece."""
        return self.sum(row, self.layout.num_sums - 1)
