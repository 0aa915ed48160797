"""Pages of keys and values, or of latents, which last from step to step: floats, or codes with scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....ir import Operation, QuantFormat, ScalarType, TensorType, Value
from ....targets.launch_plan import Argument
from ..formats import NUMBERS
from ..planning import Planning, Rule, row_type, size_of
from .rowwise import THREADS

__all__ = ["RULES", "Pages", "cache_arguments", "keep_pages", "pages_of", "read_pages"]

_ELEMENTS = {
    ScalarType.FLOAT32: ("float", "Float32"),
    ScalarType.FLOAT16: ("unsigned short", "Float16"),
    ScalarType.BFLOAT16: ("unsigned short", "BFloat16"),
}


@dataclass(frozen=True, slots=True)
class Pages:
    """A layer's keys, values or latents, as templates take them.

    Attributes:
        name: ``keys``, ``values`` or ``latents``, as kernels call them; scales of codes are ``keys_scales``.
        arrays: what each array holds: its suffix in the state's name, its C++ type and its numpy dtype.
        shapes: of these arrays.
        element: of floats, as templates take it; empty for codes.
        group_size: elements of a head that share a scale; zero for floats.
        type: of codes, the template that says where they lie.
        reader: the type of what reads them.
    """

    name: str
    arrays: tuple[tuple[str, str, str], ...]
    shapes: tuple[tuple[int | str, ...], ...]
    element: str
    group_size: int
    type: str
    reader: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """What a kernel calls the arrays."""
        return (self.name,) if self.element else (self.name, f"{self.name}_scales")


def pages_of(cache: TensorType, name: str) -> Pages:
    """How a cache ``[pages, kv_heads, page_size, dim]`` lies; ``latents`` lie as keys do."""
    page_size, dim = (int(size) for size in cache.shape[2:])
    element, are_keys = cache.element, name != "values"

    def shape(width: int) -> tuple[int | str, ...]:
        return (*cache.shape[:2], *((page_size, width) if are_keys else (width, page_size)))

    kind = name.capitalize()
    if isinstance(element, QuantFormat):
        stored, scale = NUMBERS[element.scale.type]
        size = element.group_size or dim
        dtype = "uint16" if element.scale.type == "bfloat16" else element.scale.type
        type_ = f"CodedPages<{element.bits}, {scale}, {size}, {dim}, {page_size}, {str(are_keys).lower()}>"
        arrays = ((".codes", "unsigned char", "uint8"), (".scales", stored, dtype))
        shapes = shape(dim * element.bits // 8), shape(dim // size)
        return Pages(name, arrays, shapes, "", size, type_, f"Coded{kind}<{type_}>")
    assert element in _ELEMENTS, f"there are no caches of {element}"
    stored, type_ = _ELEMENTS[element]
    dtype = "uint16" if element is ScalarType.BFLOAT16 else element.value
    return Pages(
        name, (("", stored, dtype),), (shape(dim),), type_, 0, "", f"Float{kind}<{type_}, {dim}, {page_size}>"
    )


def keep_pages(planning: Planning, cache: Value, written: Value, name: str) -> Pages:
    """The arrays of a cache, and of what it is when it is ``written``: the same."""
    pages = pages_of(cache.type, name)
    planning.caches[cache] = planning.caches[written] = tuple(
        planning.keep_state(cache.name + suffix, shape, dtype)
        for (suffix, _, dtype), shape in zip(pages.arrays, pages.shapes, strict=True)
    )
    return pages


def cache_arguments(
    planning: Planning, cache: Value, pages: Pages, constant: str = "const "
) -> list[tuple[str, Argument]]:
    """A kernel's arguments for a cache, which it does not write to if they are ``constant``."""
    return [
        (f"GLOBAL {constant}{stored}* {parameter}", array)
        for parameter, (_, stored, _), array in zip(
            pages.parameters, pages.arrays, planning.caches[cache], strict=True
        )
    ]


def read_pages(*caches: Pages) -> str:
    """Statements that make ``cached_keys`` of ``keys``, and so on, of :func:`cache_arguments`."""
    return "".join(
        f"{pages.reader} cached_{pages.name}{{{', '.join(pages.parameters)}}}; " for pages in caches
    )


def _append_kv(planning: Planning, operation: Operation) -> None:
    caches, slots = operation.operands[:2], operation.operands[4]
    rows = [planning.region(value) for value in operation.operands[2:4]]
    arguments: list[tuple[str, Argument]] = []
    every = []
    for cache, result, name in zip(caches, operation.results, ("keys", "values"), strict=True):
        every.append(keep_pages(planning, cache, result, name))
        arguments += cache_arguments(planning, cache, every[-1], constant="")
    arguments += [
        ("GLOBAL const float* k", rows[0].array),
        ("GLOBAL const float* v", rows[1].array),
        ("GLOBAL const int* slots", planning.plain[slots]),
    ]
    heads, page_size = (int(size) for size in caches[0].type.shape[1:3])
    views = [row_type(region.view) for region in rows]
    if every[0].element:
        dims = ", ".join(str(cache.type.shape[3]) for cache in caches)
        body = (
            f"append<{THREADS}, {', '.join(views)}, {every[0].element}, {heads}, {dims}, {page_size}>"
            "(here, keys, values, k, v, slots);"
        )
    else:
        body = "int slot = slots[here.block_x()];"
        for pages, view, name in zip(every, views, ("k", "v"), strict=True):
            given = ", ".join(pages.parameters)
            body += f" append_codes<{THREADS}, {view}, {heads}, {pages.type}>(here, {given}, {name}, slot);"
    planning.launch_rows("append", body, arguments, (size_of(rows[0].rows),), THREADS)


RULES: Mapping[str, Rule] = {"append_kv": _append_kv}
"""By operator."""
