"""Which of a processor's features this process can use.

Linux lists what the processor has. The system must also keep a feature's registers when it switches tasks,
which a kernel or virtual machine may not do; for AMX each process has to ask; and a user may leave features
out to see what a lesser machine does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..ir.errors import IngotError

__all__ = [
    "FEATURES_VARIABLE",
    "RegisterStates",
    "Withheld",
    "features_left_out",
    "register_states",
    "usable_features",
]

FEATURES_VARIABLE = "INGOT_CPU_FEATURES"
"""The environment variable that leaves features out: ``-avx512f,-amx_tile``."""

_BUILT_ON = {"avx2": ("avx512", "avx_vnni", "amx_"), "avx512f": ("avx512", "amx_"), "amx_tile": ("amx_",)}
"""Where a feature is left out, so are those whose names begin like these: no machine has them alone."""

# Linux' arch/x86/include/uapi/asm/prctl.h, and the bits of XCR0 in Intel's manual, volume 1, 13.1.
_ARCH_PRCTL = 158
_GET_SUPPORTED, _GET_PERMITTED, _REQUEST = 0x1021, 0x1022, 0x1023
_YMM, _ZMM, _TILES = 1 << 2, 7 << 5, 3 << 17
_TILE_DATA = 18


@dataclass(frozen=True, slots=True)
class Withheld:
    """A feature that the processor has and this process cannot use, and why."""

    feature: str
    reason: str


@dataclass(frozen=True, slots=True)
class RegisterStates:
    """Which registers the system keeps, as bits of XCR0; ``supported`` None: it does not tell, which before
    Linux 5.16 means that it lists what it keeps. ``request_tiles`` asks for AMX's and says whether it may be.
    """

    supported: int | None
    request_tiles: Callable[[], bool]


def register_states() -> RegisterStates:
    """What this system says, on x86-64."""
    return RegisterStates(_ask(_GET_SUPPORTED), _request_tiles)


def _ask(what: int) -> int | None:
    """A mask that the kernel has on this process's registers."""
    mask = ctypes.c_uint64()
    return mask.value if _arch_prctl(what, ctypes.byref(mask)) == 0 else None


def _request_tiles() -> bool:
    """Ask for AMX's tiles, for this process and all its threads; again is the same as once."""
    granted = _arch_prctl(_REQUEST, ctypes.c_ulong(_TILE_DATA)) == 0
    permitted = _ask(_GET_PERMITTED)
    return granted and permitted is not None and permitted & _TILES == _TILES


def _arch_prctl(what: int, argument: object) -> int:
    call = ctypes.CDLL(None).syscall
    call.restype = ctypes.c_long
    return int(call(ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(what), argument))


def features_left_out(text: str) -> frozenset[str]:
    """The features named by :data:`FEATURES_VARIABLE`'s value; raises :class:`IngotError` for what would add
    any.
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    for item in items:
        if not item.startswith("-") or not item[1:].replace("_", "").isalnum():
            raise IngotError(
                f"{FEATURES_VARIABLE} has '{item}': features can only be left out, each written with a "
                "minus, as in -avx512f,-amx_tile"
            )
    return frozenset(item[1:] for item in items)


def usable_features(
    listed: Iterable[str], states: RegisterStates | None, left_out: frozenset[str]
) -> tuple[frozenset[str], tuple[Withheld, ...]]:
    """The features of ``listed`` that can be used, and those that cannot, by name.

    Args:
        listed: what the processor has, in Linux' spelling.
        states: of an x86-64; None elsewhere.
        left_out: what the user does not want.
    """
    features, withheld = set(listed), dict[str, str]()

    def withhold(prefixes: tuple[str, ...], reason: str) -> None:
        for feature in [feature for feature in features if feature.startswith(prefixes)]:
            features.remove(feature)
            withheld[feature] = reason

    for feature in sorted(left_out):
        if feature in features:
            features.remove(feature)
            withheld[feature] = f"left out by {FEATURES_VARIABLE}"
        withhold(_BUILT_ON.get(feature, ()), f"left out with {feature} by {FEATURES_VARIABLE}")
    if states is not None:
        kept = -1 if states.supported is None else states.supported
        for prefix, bits in (("amx_", _TILES), ("avx512", _ZMM), ("avx", _YMM)):
            if kept & bits != bits:
                withhold((prefix,), "the system does not keep its registers")
        if "amx_tile" in features and not states.request_tiles():
            withhold(("amx_",), "the system does not let this process use AMX's tiles")
    return frozenset(features), tuple(Withheld(*item) for item in sorted(withheld.items()))
