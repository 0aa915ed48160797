"""Rows that a kernel makes: stored as they are, or rounded to codes at once where only codes are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .isa import Isa
from .quantize import quantize_row
from .row_codes import RowCodes
from .rows import Rows
from .script import Buffer, Expr, T

__all__ = ["RowResults"]


@dataclass(frozen=True)
class RowResults:
    """``width`` float32 columns, or their ``codes``, the same as of rows that were stored before."""

    isa: Isa
    width: int
    codes: RowCodes | None

    def arguments(self, num_rows: Expr) -> list[tuple[str, tuple[Expr, ...], str]]:
        """The kernel's arguments that hold the results."""
        if self.codes is None:
            return [("out", (num_rows, self.width), "float32")]
        return self.codes.arguments(num_rows, prefix="out_")

    @property
    def num_arguments(self) -> int:
        """How many arguments these are."""
        return 1 if self.codes is None else len(self.codes.columns)

    def store(self, results: Sequence[Buffer], row: Expr, make: Callable[[Buffer, Expr], None]) -> None:
        """Emit ``make(buffer, number)``, which writes a row to a buffer, and put it in place as ``row``."""
        if self.codes is None:
            make(results[0], row)
            return
        whole = T.alloc_buffer((1, self.width), "float32")
        make(whole, 0)
        codes, scales, sums = results
        quantize_row(self.isa, Rows.dense(self.width), self.codes, whole, (codes, scales, sums), 0, row)
