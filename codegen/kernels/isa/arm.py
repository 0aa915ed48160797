"""64-bit Arm: NEON with dot products, and with products of matrices."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ..script import T, broadcast, constants, reinterpret
from .base import DotsBfloat16, Isa, bfloat16_helper, intrinsic

__all__ = ["NeonDotProduct", "NeonI8mm"]


@dataclass(frozen=True)
class NeonDotProduct(Isa):
    """Armv8.2 with the dot product extension."""

    def dot(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr, zero_point: int) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        weights = reinterpret("int8x16", weights)
        if self.subtracts_zero_point(zero_point):
            weights = T.bitwise_xor(weights, broadcast(T.int8(-128), 16))
        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
        return intrinsic("int32x4", name, sums, weights, reinterpret("int8x16", activations))

    def subtracts_zero_point(self, zero_point: int) -> bool:
        """See :class:`.base.Isa`."""
        return zero_point == 128

    def dot_bytes(self, sums: tirx.Expr, weights: tirx.Expr, activations: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        return self.dot(sums, weights, activations, 0)

    def look_up(self, table: tuple[int, ...], places: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
        bytes_ = reinterpret("int8x16", constants("uint8", table))
        name = "llvm.aarch64.neon.tbl1.v16i8"
        return reinterpret("uint8x16", intrinsic("int8x16", name, bytes_, reinterpret("int8x16", places)))

    def look_up_floats(self, table: tuple[float, ...], places: tirx.Expr) -> tirx.Expr:
        """See :class:`.base.Isa`."""
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
        return bfloat16_helper(4, "llvm.aarch64.neon.bfdot.v4f32.v8bf16")

    def multiply_pairs(self, sums: tirx.Expr, left: tirx.Expr, right: tirx.Expr) -> tirx.Expr:
        """Add the products of two rows with two others, eight signed bytes each, to int32 ``sums``: the first
        of ``left`` with both of ``right``, then the second with both.
        """
        name = "llvm.aarch64.neon.smmla.v4i32.v16i8"
        return intrinsic("int32x4", name, sums, reinterpret("int8x16", left), reinterpret("int8x16", right))
