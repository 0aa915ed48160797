"""The formats there are: those with names of their own, and families whose names say their numbers."""

from __future__ import annotations

import re
from functools import cache

from ..errors import IRError
from .format import (
    CodeBook,
    Codes,
    Factor,
    Float8,
    Integers,
    Offset,
    OffsetRole,
    QuantFormat,
    Rounding,
)

__all__ = ["FAMILIES", "FORMATS", "find_format"]

_SUPER_BLOCK = 256

_E2M1 = (0, 1, 2, 3, 4, 6, 8, 12)
"""Floats of four bits (OCP Microscaling), doubled to be whole numbers."""

_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""``kvalues_iq4nl`` of ``ggml``."""

_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Quantiles of the normal distribution (Dettmers et al., "QLoRA", 2023), as ``bitsandbytes`` has them."""

_FP4 = (0.0, 0.0625 / 12, 8 / 12, 1.0, 4 / 12, 6 / 12, 2 / 12, 3 / 12)
"""Floats of four bits as ``bitsandbytes`` has them, the largest 1."""

_BOOKS = {"nf4": CodeBook(_NF4), "fp4": CodeBook((*_FP4, *(-value for value in _FP4)))}
"""Code books of families, by what their formats' names begin with."""

_DOUBLED_E2M1 = CodeBook((*_E2M1, *(-value for value in _E2M1)))


def _plain(name: str, codes: Codes, scale: str = "float16", size: int = 32) -> QuantFormat:
    return QuantFormat(name, codes, Factor(scale, size), rounding=Rounding.GGML)


def _with_minimum(name: str, bits: int) -> QuantFormat:
    half = Factor("float16", 32)
    codes = Integers(bits, signed=False)
    return QuantFormat(name, codes, half, Offset(OffsetRole.ADDED, half), Rounding.GGML)


def _super(type_: str, size: int) -> Factor:
    """Small numbers times a super-block's."""
    return Factor(type_, size, of=Factor("float16", _SUPER_BLOCK))


def _super_minimum(name: str, bits: int, type_: str, size: int) -> QuantFormat:
    """The K-quants that subtract a minimum."""
    factor = _super(type_, size)
    return QuantFormat(name, Integers(bits, signed=False), factor, Offset(OffsetRole.SUBTRACTED, factor))


FORMATS: dict[str, QuantFormat] = {
    entry.name: entry
    for entry in (
        _plain("q4_0", Integers(4)),
        _with_minimum("q4_1", 4),
        _plain("q5_0", Integers(5)),
        _with_minimum("q5_1", 5),
        _plain("q8_0", Integers(8)),
        _super_minimum("q2_k", 2, "uint4", 16),
        QuantFormat("q3_k", Integers(3), _super("int6", 16)),
        _super_minimum("q4_k", 4, "uint6", 32),
        _super_minimum("q5_k", 5, "uint6", 32),
        QuantFormat("q6_k", Integers(6), _super("int8", 16)),
        QuantFormat("iq4_nl", CodeBook(_IQ4), Factor("float16", 32)),
        QuantFormat("iq4_xs", CodeBook(_IQ4), _super("int6", 32)),
        _plain("mxfp4", _DOUBLED_E2M1, "e8m0_half"),
        QuantFormat(
            "nvfp4",
            _DOUBLED_E2M1,
            Factor("e4m3", 16, of=Factor("float32", None)),
            rounding=Rounding.NEAREST,
        ),
        QuantFormat("dynamic_int8_g32", Integers(8), Factor("float32", 32), rounding=Rounding.NEAREST),
    )
}
"""Formats with names of their own. ``dynamic_`` ones are for activations, found while the model runs."""

FAMILIES = {
    "int": "int4_g32: 2 to 8 bits; groups of g32, or _row for the whole row; _z with whole zero points, "
    "_fz with zero points that are floats; scales float16, or _bf16, _f32, or _i5 (to 4 bits): up to 15 "
    "times one of the row",
    "fp8": "fp8_e4m3_g128: e4m3 or e5m2; groups or _row; scales float32, or _bf16, _f16, _e8m0; with _a8 "
    "rows are rounded to e4m3 as well",
    "nf4": "nf4_g64: groups; scales float32, or _bf16, _f16",
    "fp4": "fp4_g64: as nf4, with floats of 4 bits as bitsandbytes has them",
    "dynamic_int": "dynamic_int8_row: as int, but rounded while the model runs; scales float32, or _f16",
    "dynamic_fp8": "dynamic_fp8_e4m3_row: as fp8, but rounded while the model runs",
}
"""Formats whose names say what they are, by an example."""

_FAMILY = re.compile(
    r"(?:(?P<dynamic>dynamic_)?(?:int(?P<bits>[2-8])|fp8_(?P<float8>e4m3|e5m2))|(?P<book>nf4|fp4))"
    r"_(?:g(?P<size>[1-9][0-9]*)|row)(?P<zero>_z|_fz)?(?:_(?P<scale>f16|bf16|f32|e8m0|i5))?(?P<rows>_a8)?",
    re.ASCII,
)

_SCALES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "e8m0": "e8m0"}

_FLOAT8 = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}


@cache
def find_format(name: str) -> QuantFormat:
    """The format called ``name``; raises :class:`IRError` that lists those there are.

    The same name gives the same object.
    """
    if name in FORMATS:
        return FORMATS[name]
    if (match := _FAMILY.fullmatch(name)) and (found := _of_family(name, match)):
        return found
    raise IRError(
        f"no element type or quantization format '{name}'; formats: {', '.join(FORMATS)}, and those like "
        f"{'; '.join(FAMILIES.values())}"
    )


def _of_family(name: str, match: re.Match[str]) -> QuantFormat | None:
    """The format that the parts of a name describe, None where they do not fit."""
    default = "f16" if match["bits"] and not match["dynamic"] else "f32"
    if match["scale"] == default or (match["zero"] and (match["dynamic"] or not match["bits"])):
        return None
    if match["scale"] == "e8m0" and not match["float8"]:
        return None
    if match["rows"] and (match["float8"] != "e4m3" or match["dynamic"]):
        return None
    size = int(match["size"]) if match["size"] else None
    if match["scale"] == "i5":
        return _with_whole_scales(name, match)
    scale = Factor(_SCALES[match["scale"] or default], size)
    if match["float8"]:
        rows = f"dynamic_fp8_e4m3_{'row' if size is None else f'g{size}'}" if match["rows"] else None
        codes = Float8(_FLOAT8[match["float8"]])
        return QuantFormat(name, codes, scale, rounding=Rounding.NEAREST, rows=rows)
    if match["book"]:
        return QuantFormat(name, _BOOKS[match["book"]], scale, rounding=Rounding.NEAREST)
    bits = int(match["bits"])
    if not match["zero"]:
        rounding = Rounding.NEAREST if match["dynamic"] else Rounding.SEARCHED
        return QuantFormat(name, Integers(bits), scale, rounding=rounding)
    zeros = Factor("uint8", size) if match["zero"] == "_z" else scale
    return QuantFormat(name, Integers(bits, signed=False), scale, Offset(OffsetRole.ZERO_POINT, zeros))


def _with_whole_scales(name: str, match: re.Match[str]) -> QuantFormat | None:
    """Groups' scales whole numbers up to 15 either way, where codes times these are of eight bits."""
    if not match["size"] or match["zero"] or match["dynamic"] or not match["bits"] or int(match["bits"]) > 4:
        return None
    scale = Factor("int5", int(match["size"]), of=Factor("float32", None))
    return QuantFormat(name, Integers(int(match["bits"])), scale)
