"""Instruction sets, by the names that targets use.

A new one is a subclass of :class:`Isa`, in ``x86``, ``arm`` or a module of its own, and an entry in ``ISAS``.
"""

from __future__ import annotations

from dataclasses import replace

from ....targets import Target
from .arm import NeonDotProduct, NeonI8mm
from .base import DotsBfloat16, Isa, Tiling, fma, intrinsic
from .x86 import Avx2, Avx2Vnni, Avx512Amx, Avx512Bf16, Avx512Vnni

__all__ = [
    "ISAS",
    "Avx2",
    "Avx2Vnni",
    "Avx512Amx",
    "Avx512Bf16",
    "Avx512Vnni",
    "DotsBfloat16",
    "Isa",
    "NeonDotProduct",
    "NeonI8mm",
    "Tiling",
    "fma",
    "intrinsic",
    "isa_of",
]


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
