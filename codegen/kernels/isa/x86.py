"""x86-64: AVX2 and AVX-512, with VNNI and what came after it."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ..script import T, broadcast, constants, reinterpret, vector_type
from .base import DotsBfloat16, Isa, bfloat16_helper, intrinsic

__all__ = ["Avx2", "Avx2Vnni", "Avx512Amx", "Avx512Bf16", "Avx512Vnni"]


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
        """See :class:`.base.Isa`."""
        bytes_ = reinterpret("int8x64", constants("uint8", table * 4))
        name = "llvm.x86.avx512.pshuf.b.512"
        return reinterpret("uint8x64", intrinsic("int8x64", name, bytes_, reinterpret("int8x64", places)))

    def look_up_floats(self, table: tuple[float, ...], places: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
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
        return bfloat16_helper(16, "llvm.x86.avx512bf16.dpbf16ps.512")


@dataclass(frozen=True)
class Avx512Amx(Avx512Bf16):
    """AVX-512 with VNNI and products of bfloat16, and beside it AMX, whose tiles multiply many rows (see
    :mod:`..amx`).
    """


@dataclass(frozen=True)
class Avx2(Isa):
    """AVX2: pairs of bytes to saturating int16, pairs of these to int32.

    Two products of a 4-bit weight fit int16. For wider weights the sign moves to the activation, so that a
    pair is at most ``2 * 128 * 127`` and cannot saturate.
    """

    @property
    def num_registers(self) -> int:
        """See :class:`.base.Isa`."""
        return 16

    def dot(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr, zero_point: int) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        weights, activations = reinterpret("int8x32", weights), reinterpret("int8x32", activations)
        if self.subtracts_zero_point(zero_point):
            signed = T.bitwise_xor(weights, broadcast(T.int8(-128), 32))
            activations = intrinsic("int8x32", "llvm.x86.avx2.psign.b", activations, signed)
            weights = intrinsic("int8x32", "llvm.abs.v32i8", signed, tirx.const(False, "bool"))
        pairs = intrinsic("int16x16", "llvm.x86.avx2.pmadd.ub.sw", weights, activations)
        fours = intrinsic("int32x8", "llvm.x86.avx2.pmadd.wd", pairs, broadcast(T.int16(1), 16))
        return sums + fours

    def subtracts_zero_point(self, zero_point: int) -> bool:
        """See :class:`.base.Isa`."""
        return zero_point == 128

    def dot_bytes(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        return self.dot(sums, T.bitwise_xor(weights, broadcast(T.uint8(128), 32)), activations, 128)

    # Small sums stay two int16 a lane, which the scales' multiplication adds up.

    def begin_small(self, start: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        return T.bitwise_and(start, T.int32(0xFFFF))

    def dot_small(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        pairs = intrinsic(
            "int16x16",
            "llvm.x86.avx2.pmadd.ub.sw",
            reinterpret("int8x32", weights),
            reinterpret("int8x32", activations),
        )
        return reinterpret("int32x8", reinterpret("int16x16", sums) + pairs)

    def small_scales(self, scales: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        return T.bitwise_and(scales, broadcast(T.int32(0xFFFF), 8)) * broadcast(T.int32(0x10001), 8)

    def add_scaled(self, totals: tirx.Expr, sums: tirx.Expr, scales: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        pairs = reinterpret("int16x16", sums), reinterpret("int16x16", scales)
        return totals + intrinsic("int32x8", "llvm.x86.avx2.pmadd.wd", *pairs)

    def look_up(self, table: tuple[int, ...], places: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        bytes_ = reinterpret("int8x32", constants("uint8", table * 2))
        name = "llvm.x86.avx2.pshuf.b"
        return reinterpret("uint8x32", intrinsic("int8x32", name, bytes_, reinterpret("int8x32", places)))

    def look_up_floats(self, table: tuple[float, ...], places: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        low, high = (
            intrinsic("float32x8", "llvm.x86.avx2.permps", constants("float32", half), places)
            for half in (table[:8], table[8:])
        )
        return tirx.Select(places < broadcast(T.int32(8), 8), low, high)


@dataclass(frozen=True)
class Avx2Vnni(_Vnni, Avx2):
    """AVX2 with AVX-VNNI."""
