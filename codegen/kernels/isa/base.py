"""What kernels ask of an instruction set: vector width, integer dot products, and how many registers to fill.

Everything else about a machine LLVM knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from tvm import tirx

from ....targets import Caches
from ..script import T, call_helper, vector_type

__all__ = ["DotsBfloat16", "Isa", "Tiling", "bfloat16_helper", "fma", "intrinsic"]


def intrinsic(dtype: str, name: str, *operands: tirx.Expr) -> tirx.Expr:
    """An LLVM intrinsic without side effects."""
    return T.call_llvm_pure_intrin(dtype, name, *operands)


def fma(lanes: int, a: tirx.Expr, b: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
    """``a * b + c`` in float32, rounded once."""
    suffix = "f32" if lanes == 1 else f"v{lanes}f32"
    return intrinsic(vector_type("float32", lanes), f"llvm.fma.{suffix}", a, b, c)


_SMALL_CACHES = Caches(32 << 10, 256 << 10)


@dataclass(frozen=True)
class Tiling:
    """How products of codes are cut where rows are whole numbers.

    ``rows`` is the height of the largest register tile of one block; from ``widened_rows`` on such tiles
    scale weights rather than each row's sums. From ``panel_rows`` rows on there are panels, of
    ``panel_blocks``.
    """

    rows: int
    widened_rows: int
    panel_rows: int
    panel_blocks: int


@dataclass(frozen=True)
class Isa(ABC):
    """One instruction set.

    ``lanes`` is float32 elements in a vector register. ``integer_rows`` and ``float_rows`` are the heights of
    the register tiles of the integer and float matrix products, largest first, each half the one before,
    down to 1. ``attention_rows`` is how many queries share a register tile of keys. Kernels are cut to the
    size of ``caches``, or as ``tiling`` says where there is one.
    """

    name: str
    lanes: int
    integer_rows: tuple[int, ...]
    float_rows: tuple[int, ...]
    attention_rows: int
    caches: Caches = _SMALL_CACHES
    tiling: Tiling | None = None

    @property
    def bytes(self) -> int:
        """Bytes in a vector register."""
        return 4 * self.lanes

    @property
    def num_registers(self) -> int:
        """How many vector registers there are."""
        return 32

    @abstractmethod
    def dot(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr, zero_point: int) -> tirx.Expr:
        """Add the products of four neighbours to each int32 lane of ``sums``.

        ``weights`` are unsigned bytes that stand for ``byte - zero_point``, ``activations`` signed bytes of
        magnitude up to 127. Where :meth:`subtracts_zero_point` is false the products are of the bytes as
        they are.
        """

    def subtracts_zero_point(self, zero_point: int) -> bool:
        """Whether :meth:`dot` itself takes the zero point off the weights."""
        return False

    @property
    def helpers(self) -> str:
        """LLVM assembly of functions that the instruction set's methods call, for :func:`..script.kernel`."""
        return ""

    @property
    def byte_of_zero(self) -> int:
        """The byte of a weight of zero for :meth:`dot_bytes`: 0 where bytes are signed, else 128."""
        return 0

    @abstractmethod
    def dot_bytes(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        """Add the products of four neighbours to each int32 lane of ``sums``; weights of magnitude up to 127.

        Where :attr:`byte_of_zero` is not zero, the products are of the bytes as they are.
        """

    # A sum of up to 32 products of codes of four bits, zero point and all, fits 16 bits. Where machines add
    # so many up in some way of their own, the lanes of ``sums`` below are theirs to say.

    def begin_small(self, start: tirx.Expr) -> tirx.Expr:
        """What lanes hold before the first product, so that ``start``, a scalar int32, is part of the sum."""
        return start

    def dot_small(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        """Add the products of four neighbours; ``weights`` are bytes up to 15."""
        return self.dot(sums, weights, activations, 0)

    def small_scales(self, scales: tirx.Expr) -> tirx.Expr:
        """Whole ``scales``, int32 of magnitude below 128, as :meth:`add_scaled` takes them."""
        return scales

    def add_scaled(self, totals: tirx.Expr, sums: tirx.Expr, scales: tirx.Expr) -> tirx.Expr:
        """Add what was summed up, times scales, to int32 ``totals``."""
        return totals + sums * scales

    @abstractmethod
    def look_up(self, table: tuple[int, ...], places: tirx.Expr) -> tirx.Expr:
        """The bytes of a ``table`` of 16 at ``places``, a vector of bytes."""

    @abstractmethod
    def look_up_floats(self, table: tuple[float, ...], places: tirx.Expr) -> tirx.Expr:
        """The floats of a ``table`` of 16 at ``places``, a vector of int32."""


def bfloat16_helper(lanes: int, name: str) -> str:
    """LLVM assembly of ``ingot_dot_bfloat16``, an intrinsic ``name`` of vectors of bfloat16.

    TVM widens such vectors to float32 wherever it meets them, so they come as the int32 of their pairs.
    """
    floats, words, halves = f"<{lanes} x float>", f"<{lanes} x i32>", f"<{2 * lanes} x bfloat>"
    return f"""
declare {floats} @{name}({floats}, {halves}, {halves})
define {floats} @ingot_dot_bfloat16({floats} %sums, {words} %weights, {words} %activations) alwaysinline {{
  %left = bitcast {words} %weights to {halves}
  %right = bitcast {words} %activations to {halves}
  %dot = call {floats} @{name}({floats} %sums, {halves} %left, {halves} %right)
  ret {floats} %dot
}}
"""


class DotsBfloat16(Isa):
    """An instruction set with products of pairs of bfloat16."""

    def dot_bfloat16(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        """Add the products of two neighbouring bfloat16 to each float32 lane of ``sums``.

        ``weights`` and ``activations`` are int32 lanes, each the bits of two bfloat16. What is added in which
        order, and how it is rounded, is the machine's. The kernel must be given :attr:`helpers`.
        """
        dtype = vector_type("float32", self.lanes)
        return call_helper(dtype, "ingot_dot_bfloat16", sums, weights, activations)
