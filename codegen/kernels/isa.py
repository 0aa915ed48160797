"""What kernels ask of an instruction set: vector width, integer dot products, and how many registers to fill.

Everything else about a machine LLVM knows. A new instruction set is one subclass and one entry in ``ISAS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from tvm import tirx

from ...targets import Caches, Target
from .script import T, broadcast, call_helper, constants, reinterpret, vector_type

__all__ = ["ISAS", "DotsBfloat16", "Isa", "NeonI8mm", "Tiling", "fma", "intrinsic", "isa_of"]


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
        """LLVM assembly of functions that the instruction set's methods call, for :func:`.script.kernel`."""
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


def _bfloat16_helper(lanes: int, name: str) -> str:
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


class _Vnni(Isa):
    """VNNI, of AVX-512 or of AVX2: four products of unsigned by signed bytes, and their sum, at once."""

    def dot(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr, zero_point: int) -> tirx.Expr:
        return self._vnni("vpdpbusd", "int8", sums, weights, activations)

    def subtracts_zero_point(self, zero_point: int) -> bool:
        return False

    @property
    def byte_of_zero(self) -> int:
        return 128

    def dot_bytes(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        return self.dot(sums, weights, activations, 128)

    def begin_small(self, start: tirx.Expr) -> tirx.Expr:
        return start

    def dot_small(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        return self.dot(sums, weights, activations, 0)

    def small_scales(self, scales: tirx.Expr) -> tirx.Expr:
        return T.bitwise_and(scales, broadcast(T.int32(0xFFFF), self.lanes))

    def add_scaled(self, totals: tirx.Expr, sums: tirx.Expr, scales: tirx.Expr) -> tirx.Expr:
        # The sums' low halves times the scales, and their high ones times zero.
        return self._vnni("vpdpwssd", "int16", totals, sums, scales)

    def _vnni(self, name: str, scalar: str, sums: tirx.Expr, *factors: tirx.Expr) -> tirx.Expr:
        # LLVM has one name for both encodings of the narrower form.
        dtype = vector_type(scalar, 8 * self.bytes // int(scalar.removeprefix("int")))
        name = f"llvm.x86.avx512.{name}.{8 * self.bytes}"
        return intrinsic(
            vector_type("int32", self.lanes), name, sums, *(reinterpret(dtype, factor) for factor in factors)
        )


@dataclass(frozen=True)
class Avx512Vnni(_Vnni):
    """AVX-512 with VNNI."""

    def look_up(self, table: tuple[int, ...], places: tirx.Expr) -> tirx.Expr:
        bytes_ = reinterpret("int8x64", constants("uint8", table * 4))
        name = "llvm.x86.avx512.pshuf.b.512"
        return reinterpret("uint8x64", intrinsic("int8x64", name, bytes_, reinterpret("int8x64", places)))

    def look_up_floats(self, table: tuple[float, ...], places: tirx.Expr) -> tirx.Expr:
        name = "llvm.x86.avx512.permvar.sf.512"
        return intrinsic("float32x16", name, constants("float32", table), places)


@dataclass(frozen=True)
class Avx512Bf16(DotsBfloat16, Avx512Vnni):
    """AVX-512 with VNNI and BF16. A lane's odd products are added first, then its even ones, each rounded to
    nearest; numbers too small to be normal count as zero.
    """

    @property
    def helpers(self) -> str:
        """See :attr:`Isa.helpers`."""
        return _bfloat16_helper(16, "llvm.x86.avx512bf16.dpbf16ps.512")


@dataclass(frozen=True)
class Avx512Amx(Avx512Bf16):
    """AVX-512 with VNNI and products of bfloat16, and beside it AMX, whose tiles multiply many rows (see
    :mod:`.amx`).
    """


@dataclass(frozen=True)
class Avx2(Isa):
    """AVX2: pairs of bytes to saturating int16, pairs of these to int32.

    Two products of a 4-bit weight fit int16. For wider weights the sign moves to the activation, so that a
    pair is at most ``2 * 128 * 127`` and cannot saturate.
    """

    @property
    def num_registers(self) -> int:
        return 16

    def dot(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr, zero_point: int) -> tirx.Expr:
        weights, activations = reinterpret("int8x32", weights), reinterpret("int8x32", activations)
        if self.subtracts_zero_point(zero_point):
            signed = T.bitwise_xor(weights, broadcast(T.int8(-128), 32))
            activations = intrinsic("int8x32", "llvm.x86.avx2.psign.b", activations, signed)
            weights = intrinsic("int8x32", "llvm.abs.v32i8", signed, tirx.const(False, "bool"))
        pairs = intrinsic("int16x16", "llvm.x86.avx2.pmadd.ub.sw", weights, activations)
        fours = intrinsic("int32x8", "llvm.x86.avx2.pmadd.wd", pairs, broadcast(T.int16(1), 16))
        return sums + fours

    def subtracts_zero_point(self, zero_point: int) -> bool:
        return zero_point == 128

    def dot_bytes(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        return self.dot(sums, T.bitwise_xor(weights, broadcast(T.uint8(128), 32)), activations, 128)

    # Small sums stay two int16 a lane, which the scales' multiplication adds up.

    def begin_small(self, start: tirx.Expr) -> tirx.Expr:
        return T.bitwise_and(start, T.int32(0xFFFF))

    def dot_small(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        pairs = intrinsic(
            "int16x16",
            "llvm.x86.avx2.pmadd.ub.sw",
            reinterpret("int8x32", weights),
            reinterpret("int8x32", activations),
        )
        return reinterpret("int32x8", reinterpret("int16x16", sums) + pairs)

    def small_scales(self, scales: tirx.Expr) -> tirx.Expr:
        return T.bitwise_and(scales, broadcast(T.int32(0xFFFF), 8)) * broadcast(T.int32(0x10001), 8)

    def add_scaled(self, totals: tirx.Expr, sums: tirx.Expr, scales: tirx.Expr) -> tirx.Expr:
        pairs = reinterpret("int16x16", sums), reinterpret("int16x16", scales)
        return totals + intrinsic("int32x8", "llvm.x86.avx2.pmadd.wd", *pairs)

    def look_up(self, table: tuple[int, ...], places: tirx.Expr) -> tirx.Expr:
        bytes_ = reinterpret("int8x32", constants("uint8", table * 2))
        name = "llvm.x86.avx2.pshuf.b"
        return reinterpret("uint8x32", intrinsic("int8x32", name, bytes_, reinterpret("int8x32", places)))

    def look_up_floats(self, table: tuple[float, ...], places: tirx.Expr) -> tirx.Expr:
        low, high = (
            intrinsic("float32x8", "llvm.x86.avx2.permps", constants("float32", half), places)
            for half in (table[:8], table[8:])
        )
        return tirx.Select(places < broadcast(T.int32(8), 8), low, high)


@dataclass(frozen=True)
class Avx2Vnni(_Vnni, Avx2):
    """AVX2 with AVX-VNNI."""


@dataclass(frozen=True)
class NeonDotProduct(Isa):
    """Armv8.2 with the dot product extension."""

    def dot(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr, zero_point: int) -> tirx.Expr:
        weights = reinterpret("int8x16", weights)
        if self.subtracts_zero_point(zero_point):
            weights = T.bitwise_xor(weights, broadcast(T.int8(-128), 16))
        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
        return intrinsic("int32x4", name, sums, weights, reinterpret("int8x16", activations))

    def subtracts_zero_point(self, zero_point: int) -> bool:
        return zero_point == 128

    def dot_bytes(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        return self.dot(sums, weights, activations, 0)

    def look_up(self, table: tuple[int, ...], places: tirx.Expr) -> tirx.Expr:
        bytes_ = reinterpret("int8x16", constants("uint8", table))
        name = "llvm.aarch64.neon.tbl1.v16i8"
        return reinterpret("uint8x16", intrinsic("int8x16", name, bytes_, reinterpret("int8x16", places)))

    def look_up_floats(self, table: tuple[float, ...], places: tirx.Expr) -> tirx.Expr:
        quarters = [
            reinterpret("int8x16", constants("float32", table[first : first + 4]))
            for first in range(0, 16, 4)
        ]
        # A place's four bytes are those from four times its number on.
        bytes_ = places * broadcast(T.int32(0x04040404), 4) + broadcast(T.int32(0x03020100), 4)
        name = "llvm.aarch64.neon.tbl4.v16i8"
        found = intrinsic("int8x16", name, *quarters, reinterpret("int8x16", bytes_))
        return reinterpret("float32x4", found)


@dataclass(frozen=True)
class NeonI8mm(DotsBfloat16, NeonDotProduct):
    """Armv8.6: products of 8-bit matrices, and of pairs of bfloat16.

    A lane's two products are added to each other first; sums are rounded to odd, and numbers too small to be
    normal count as zero.
    """

    @property
    def helpers(self) -> str:
        """See :attr:`Isa.helpers`."""
        return _bfloat16_helper(4, "llvm.aarch64.neon.bfdot.v4f32.v8bf16")

    def multiply_pairs(self, sums: tirx.Expr, left: tirx.Expr, right: tirx.Expr) -> tirx.Expr:
        """Add the products of two rows with two others, eight signed bytes each, to int32 ``sums``: the first
        of ``left`` with both of ``right``, then the second with both.
        """
        name = "llvm.aarch64.neon.smmla.v4i32.v16i8"
        return intrinsic("int32x4", name, sums, reinterpret("int8x16", left), reinterpret("int8x16", right))


def _avx512(kind: type[Avx512Vnni], name: str) -> Isa:
    return kind(name, lanes=16, integer_rows=(8, 4, 2, 1), float_rows=(8, 4, 2, 1), attention_rows=4)


def _avx2(kind: type[Avx2], name: str, integer_rows: tuple[int, ...]) -> Isa:
    return kind(name, lanes=8, integer_rows=integer_rows, float_rows=(4, 2, 1), attention_rows=2)


def _neon(kind: type[NeonDotProduct], name: str) -> Isa:
    return kind(name, lanes=4, integer_rows=(2, 1), float_rows=(4, 2, 1), attention_rows=4)


ISAS: dict[str, Isa] = {
    isa.name: isa
    for isa in (
        _avx512(Avx512Vnni, "avx512-vnni"),
        _avx512(Avx512Bf16, "avx512-bf16"),
        _avx512(Avx512Amx, "avx512-amx"),
        _avx2(Avx2, "avx2", (4, 2, 1)),
        _avx2(Avx2Vnni, "avx2-vnni", (8, 4, 2, 1)),
        _neon(NeonDotProduct, "neon-dotprod"),
        _neon(NeonI8mm, "neon-i8mm"),
    )
}
"""Every instruction set by the name that targets use."""


def isa_of(target: Target) -> Isa:
    """A target's instruction set, for caches of its size."""
    return replace(ISAS[target.isa], caches=target.caches)
