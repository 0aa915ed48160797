"""How a layer's keys, values or latents lie in pages, as floats or as codes; writing and reading them.

Keys lie by column, ``[pages, kv_heads, head_dim, page_size]``, so that neighbouring keys fill a vector;
values by position, ``[pages, kv_heads, page_size, head_dim]``. Codes of four bits share a byte with those of
the other half of the head, the low ones first, so that no two positions share one. Their scales lie alike:
``[pages, kv_heads, groups, page_size]`` for keys and ``[pages, kv_heads, page_size, groups]`` for values.

bfloat16 lies in pairs, whose bits are uint16, as machines multiply it: keys as ``[pages, kv_heads,
head_dim / 2, page_size, 2]``, a zero filling up the last pair of a head of an odd number, and values as
``[pages, kv_heads, page_size / 2, head_dim, 2]``, two positions side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from .isa import Isa, intrinsic
from .rows import Rows, load_float, load_rows, to_bfloat16, vectors
from .script import (
    Buffer,
    Expr,
    T,
    Vector,
    broadcast,
    cast,
    load,
    prefetch,
    reinterpret,
    store,
    vector_type,
)

__all__ = ["CachedHeads", "CodedElement", "FloatElement", "Part"]


CACHE_LINE_BYTES = 64


@dataclass(frozen=True)
class FloatElement:
    """Floats of a numpy dtype, or bfloat16."""

    dtype: str

    @property
    def is_paired(self) -> bool:
        """Whether two of them lie side by side."""
        return self.dtype == "bfloat16"


@dataclass(frozen=True)
class CodedElement:
    """Signed codes of 8 or 4 bits, in groups along the head with a scale each."""

    bits: int
    group_size: int
    scale_type: str


@dataclass(frozen=True)
class Part:
    """One array of a cache: what its name ends with, its dimensions after ``pages``, its numpy dtype."""

    suffix: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class CachedHeads:
    """One layer's keys (``by_column``) or values: ``kv_heads`` of ``dim`` in pages of ``page_size``."""

    element: FloatElement | CodedElement
    kv_heads: int
    dim: int
    page_size: int
    by_column: bool

    @property
    def parts(self) -> tuple[Part, ...]:
        """The arrays that hold them: floats, or codes and scales."""
        if self._is_paired:
            pairs = (
                (-(-self.dim // 2), 2 * self.page_size)
                if self.by_column
                else (self.page_size // 2, 2 * self.dim)
            )
            return (Part("", (self.kv_heads, *pairs), "uint16"),)
        if isinstance(self.element, FloatElement):
            return (Part("", self._shape(self.dim), self.element.dtype),)
        dtype = "int8" if self.element.bits == 8 else "uint8"
        return (
            Part(".codes", self._shape(self._stored_dim), dtype),
            Part(".scales", self._shape(self.dim // self.element.group_size), self.element.scale_type),
        )

    @property
    def _is_paired(self) -> bool:
        return isinstance(self.element, FloatElement) and self.element.is_paired

    @property
    def _halves(self) -> int:
        """Codes that share a byte."""
        return 1 if isinstance(self.element, FloatElement) else 8 // self.element.bits

    @property
    def _stored_dim(self) -> int:
        return self.dim // self._halves

    @property
    def _group_size(self) -> int:
        """Elements of a head that have the same scale and the same place in their bytes."""
        if isinstance(self.element, FloatElement):
            return self.dim
        return min(self.element.group_size, self._stored_dim)

    def _shape(self, dim: int) -> tuple[int, ...]:
        inner = (dim, self.page_size) if self.by_column else (self.page_size, dim)
        return (self.kv_heads, *inner)

    def _place(self, page: Expr, head: Expr, column: Expr, offset: Expr) -> tuple[Expr, ...]:
        outer, inner = (column, offset) if self.by_column else (offset, column)
        if self._is_paired:
            return (page, head, outer // 2, inner * 2 + tirx.floormod(outer, 2))
        return (page, head, outer, inner)

    def read_pairs(
        self,
        arrays: Sequence[Buffer],
        head: Expr,
        pair: Expr,
        places: Sequence[tuple[Expr, Expr]],
        lanes: int,
    ) -> list[tirx.Expr]:
        """Vectors of int32, each two bfloat16: a pair of columns of the keys from each of some places on, or
        a pair of positions of one page in the columns from some on.

        Places are a page and an offset, or a page and a column.
        """
        found = []
        for page, inner in places:
            words = load(arrays[0], (page, head, pair, inner * 2), 2 * lanes)
            found.append(reinterpret(vector_type("int32", lanes), words))
        return found

    def prefetch(self, arrays: Sequence[Buffer], head: Expr, place: tuple[Expr, Expr], count: int) -> None:
        """Ask for the keys or values of ``count`` positions of one page, from a place on."""
        page, offset = place
        for array, part in zip(arrays, self.parts, strict=True):
            rows, width = part.shape[1:]
            line = CACHE_LINE_BYTES // _ITEM_BYTES[part.dtype]
            if self.by_column:
                num_rows, num_columns = rows, width * count // self.page_size
                first_row, first_column = T.int32(0), offset * (width // self.page_size)
            else:
                num_rows, num_columns = rows * count // self.page_size, width
                first_row, first_column = offset * rows // self.page_size, T.int32(0)
            step = max(1, line // width)  # rows that share a line
            with T.serial(-(-num_rows // step)) as row:
                for column in range(0, num_columns, line):
                    place_of_line = (page, head, first_row + row * step, first_column + column)
                    prefetch(array, place_of_line, past_first=True)

    def read_keys(
        self,
        arrays: Sequence[Buffer],
        head: Expr,
        places: Sequence[tuple[Expr, Expr]],
        lanes: int,
        emit: Callable[[Expr, Sequence[tirx.Expr]], None],
    ) -> None:
        """Emit ``emit(column, vectors)`` for all columns, ascending, of ``lanes`` keys from each of
        ``places``.

        A place is a page and an offset in it.
        """
        if self._is_paired:
            self._read_paired_keys(arrays, head, places, lanes, emit)
            return
        size = self._group_size
        for half in range(self._halves):
            first = half * self._stored_dim
            with T.serial(self._stored_dim // size) as group:
                start = first + group * size
                scales = [self._scale(arrays, page, head, start, offset, lanes) for page, offset in places]
                with T.serial(size) as within:
                    column = group * size + within
                    values = []
                    for scale, (page, offset) in zip(scales, places, strict=True):
                        stored = load(arrays[0], self._place(page, head, column, offset), lanes)
                        values.append(self._value(stored, half, scale, lanes))
                    emit(first + column, values)

    def _read_paired_keys(
        self,
        arrays: Sequence[Buffer],
        head: Expr,
        places: Sequence[tuple[Expr, Expr]],
        lanes: int,
        emit: Callable[[Expr, Sequence[tirx.Expr]], None],
    ) -> None:
        def read(pair: Expr, parts: Sequence[int]) -> None:
            words = [Vector("int32", lanes) for _ in places]
            for vector, value in zip(words, self.read_pairs(arrays, head, pair, places, lanes), strict=True):
                vector.set(value)
            for part in parts:
                emit(pair * 2 + part, [_half(lanes, vector.value, T.int32(part)) for vector in words])

        with T.serial(self.dim // 2) as pair:
            read(pair, (0, 1))
        if self.dim % 2:
            read(self.dim // 2, (0,))

    def read_value(
        self,
        arrays: Sequence[Buffer],
        head: Expr,
        place: tuple[Expr, Expr],
        columns: Sequence[tuple[int, int]],
    ) -> list[tirx.Expr]:
        """The vectors at ``columns``, each with its width, of the value at a place."""
        page, offset = place
        if self._is_paired:
            part = tirx.floormod(offset, 2)
            return [
                _half(width, self.read_pairs(arrays, head, offset // 2, [(page, column)], width)[0], part)
                for column, width in columns
            ]
        scales: dict[int, Vector | None] = {}
        values = []
        for column, width in columns:
            group = column // self._group_size
            if group not in scales:
                scales[group] = self._scale(arrays, page, head, column, offset, 1)
            half, stored_column = divmod(column, self._stored_dim)
            stored_value = load(arrays[0], self._place(page, head, stored_column, offset), width)
            values.append(self._value(stored_value, half, scales[group], width))
        return values

    def columns(self, lanes: int) -> list[tuple[int, int]]:
        """The vectors that a value is read in: none is of two groups."""
        size = self._group_size
        return [
            (first + column, width)
            for first in range(0, self.dim, size)
            for column, width in vectors(size, lanes)
        ]

    def _scale(
        self, arrays: Sequence[Buffer], page: Expr, head: Expr, column: Expr, offset: Expr, lanes: int
    ) -> Vector | None:
        """The scales of ``lanes`` keys from ``offset``; None where there are none."""
        if isinstance(self.element, FloatElement):
            return None
        scale = Vector("float32", lanes)
        place = self._place(page, head, column // self.element.group_size, offset)
        scale.set(load_float(arrays[1], place, lanes, self.element.scale_type))
        return scale

    def _value(self, stored: tirx.Expr, half: int, scale: Vector | None, lanes: int) -> tirx.Expr:
        """Floats of what is stored; a scale of one lane serves all."""
        if isinstance(self.element, FloatElement) or scale is None:
            return stored if self.element == FloatElement("float32") else cast("float32", lanes, stored)
        factors = scale.value if scale.lanes == lanes else broadcast(scale.value, lanes)
        code = cast("int32", lanes, stored)
        if self.element.bits == 4:
            code = T.bitwise_and(
                T.shift_right(code, broadcast(T.int32(4 * half), lanes)), broadcast(T.int32(15), lanes)
            ) - broadcast(T.int32(8), lanes)
        return cast("float32", lanes, code) * factors

    def write(
        self, isa: Isa, arrays: Sequence[Buffer], rows: Buffer, x: Rows, row: Expr, page: Expr, offset: Expr
    ) -> None:
        """Emit what writes a row's heads to ``offset`` of ``page``."""
        with T.serial(self.kv_heads) as head:
            if isinstance(self.element, FloatElement):
                self._write_floats(isa, arrays[0], rows, x, row, head, page, offset)
            else:
                self._write_codes(isa, self.element, arrays, rows, x, row, head, page, offset)

    def _write_floats(
        self,
        isa: Isa,
        array: Buffer,
        rows: Buffer,
        x: Rows,
        row: Expr,
        head: Expr,
        page: Expr,
        offset: Expr,
    ) -> None:
        dtype = self.parts[0].dtype
        if self._is_paired:
            with T.serial(self.dim) as column:
                value = load_rows(rows, x, row, head * self.dim + column)
                store(array, self._place(page, head, column, offset), to_bfloat16(1, value))
            if self.by_column and self.dim % 2:
                store(array, self._place(page, head, self.dim, offset), cast("uint16", 1, T.int32(0)))
            return
        if self.by_column:
            with T.serial(self.dim) as column:
                value = load_rows(rows, x, row, head * self.dim + column)
                store(array, self._place(page, head, column, offset), cast(dtype, 1, value))
            return
        for column, width in vectors(self.dim, isa.lanes):
            value = load_rows(rows, x, row, head * self.dim + column, width)
            store(array, self._place(page, head, column, offset), cast(dtype, width, value), width)

    def _write_codes(
        self,
        isa: Isa,
        element: CodedElement,
        arrays: Sequence[Buffer],
        rows: Buffer,
        x: Rows,
        row: Expr,
        head: Expr,
        page: Expr,
        offset: Expr,
    ) -> None:
        """Round each group to the nearest codes; a NaN makes the scale NaN, so that it is not lost."""
        codes = T.alloc_buffer((self.dim,), "int32")
        size, largest = element.group_size, (1 << (element.bits - 1)) - 1
        with T.serial(self.dim // size) as group:
            peak, scale, inverse = (Vector("float32", 1) for _ in range(3))
            peak.set(T.float32(0))
            with T.serial(size) as column:
                value = load_rows(rows, x, row, head * self.dim + group * size + column)
                magnitude = intrinsic("float32", "llvm.fabs.f32", value)
                peak.set(intrinsic("float32", "llvm.maximum.f32", peak.value, magnitude))
            stored = cast(element.scale_type, 1, peak.value / T.float32(largest))
            scale.set(cast("float32", 1, stored))
            store(
                arrays[1],
                self._place(page, head, group, offset),
                cast(element.scale_type, 1, scale.value),
            )
            inverse.set(tirx.Select(scale.value > T.float32(0), T.float32(1) / scale.value, T.float32(0)))
            for column, width in vectors(size, isa.lanes):
                value = load_rows(rows, x, row, head * self.dim + group * size + column, width)
                suffix = "f32" if width == 1 else f"v{width}f32"
                kind = "float32" if width == 1 else f"float32x{width}"
                nearest = intrinsic(kind, f"llvm.rint.{suffix}", value * broadcast(inverse.value, width))
                bounded = tirx.max(
                    tirx.min(nearest, broadcast(T.float32(largest), width)),
                    broadcast(T.float32(-largest - 1), width),
                )
                store(codes, group * size + column, cast("int32", width, bounded), width)
        with T.serial(self._stored_dim) as column:
            code = load(codes, column)
            if element.bits == 4:
                other = load(codes, column + self._stored_dim)
                code = T.bitwise_or(code + T.int32(8), T.shift_left(other + T.int32(8), T.int32(4)))
            place = self._place(page, head, column, offset)
            store(arrays[0], place, cast(self.parts[0].dtype, 1, code))


def _half(lanes: int, pairs: tirx.Expr, part: tirx.Expr) -> tirx.Expr:
    """The first or the second of pairs of bfloat16, in float32: that number ``part``."""
    shifted = T.shift_left(pairs, broadcast(T.int32(16) - part * 16, lanes))
    bits = T.bitwise_and(shifted, broadcast(T.int32(-(1 << 16)), lanes))
    return reinterpret(vector_type("float32", lanes), bits)


_ITEM_BYTES = {"float32": 4, "float16": 2, "uint16": 2, "int8": 1, "uint8": 1}
