"""Weights in a quantization format: codes, scales and offsets back from memory into registers.

What there is to do derives from the format's declaration: planes of bits are put together, places in a table
are looked up, floats of eight bits widened, small scales multiplied with their super-block's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from tvm import tirx

from ...ir import QuantFormat
from ...ir.quantization import CodeBook, Factor, Float8, Integers, OffsetRole
from .isa import Isa
from .layout import (
    BLOCK,
    LARGEST_TABLE,
    SPAN,
    are_paired,
    coded_components,
    planes_of,
    span_bytes,
)
from .rows import load_float
from .script import Buffer, Expr, T, Vector, broadcast, cast, load, prefetch, reinterpret, store, vector_type

__all__ = ["FOURS", "PREFETCH_BYTES", "ROW_GROUP", "CodedMatrix", "CodedWeights", "Group", "decode_row"]

PREFETCH_BYTES = 2048
"""How far ahead of use weights are asked for, in bytes of the stream of codes."""

ROW_GROUP = 32
"""Elements of a row of activations that share a scale: they are in the format ``dynamic_int8_g32``."""

_Number = TypeVar("_Number", int, float)

FOURS = SPAN // 4
"""Fours in a span."""


@dataclass(frozen=True)
class CodedMatrix:
    """A weight ``[outputs, inputs]`` in a quantization format.

    Activations come with sums of ``row_sum_size`` of their codes, by default of as many as are added here;
    it is less where the same activations meet another weight that needs it so.
    """

    outputs: int
    inputs: int
    format: QuantFormat
    row_sum_size: int = 0

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return self.format.group_size or self.inputs

    @property
    def sum_size(self) -> int:
        """Inputs whose products are added as whole numbers: they share a scale here and among activations."""
        return min(self.group_size, ROW_GROUP)

    @property
    def num_sums(self) -> int:
        """Sums of codes in a row of activations."""
        return self.inputs // (self.row_sum_size or self.sum_size)

    def arguments(self, blocks: int) -> list[tuple[str, tuple[Expr, ...], str]]:
        """A kernel's arguments that hold ``blocks`` of such weights."""
        return [
            (part.suffix.removeprefix("."), part.shape, part.dtype)
            for part in coded_components(self.format, blocks, self.inputs)
        ]

    @property
    def num_arguments(self) -> int:
        """How many these are."""
        return len(self.format.components) - are_paired(self.format)

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Sizes of groups that a loop over the inputs enters, largest first; the last is a span.

        Scales of a whole row are there from the beginning, and those of less than a span within it.
        """
        sizes = {component.size for component in self.format.components}
        return (*sorted((size for size in sizes if size is not None and size > SPAN), reverse=True), SPAN)

    @cached_property
    def zero_point(self) -> int:
        """What is stored for the value zero, where values are whole numbers."""
        codes = self.format.codes
        if isinstance(codes, Integers):
            # Unsigned codes of eight bits are taken as signed ones, which every machine multiplies.
            return 1 << (codes.bits - 1) if codes.signed or codes.bits == 8 else 0
        assert isinstance(codes, CodeBook)
        least = -int(min(codes.table))
        return least if least + max(codes.table) < 128 else 128


@dataclass(frozen=True)
class Group:
    """Scales of 16 outputs, in vectors, and offsets where there are any.

    ``zeros`` are taken off the codes, ``minima`` added to what the scaled codes give.
    """

    scales: list[Vector]
    zeros: list[Vector] | None
    minima: list[Vector] | None


class CodedWeights:
    """Emits what reads block number ``block`` of a ``matrix`` by the instructions of ``isa``; ``buffers`` are
    those of the matrix' arguments.

    Where codes meet codes, scales of whole rows wait for a sum's end; where they ``meet_floats``, all scales
    are floats and there from the beginning.
    """

    def __init__(
        self,
        isa: Isa,
        matrix: CodedMatrix,
        buffers: Sequence[Buffer],
        block: Expr,
        *,
        meet_floats: bool = False,
    ) -> None:
        self.isa, self.matrix, self._block = isa, matrix, block
        self._meet_floats = meet_floats
        self._buffers = _by_name(matrix, buffers)
        self._parts = BLOCK // isa.lanes
        self._known: dict[str, list[Vector]] = {}

    # --- groups

    def for_spans(self, emit: Callable[[Expr, int], None]) -> None:
        """Emit loops over the inputs, with ``emit(number of the span, its inputs)`` inside.

        A loop loads the scales and offsets of the groups it goes over as it enters them. Only the last span
        can have less than all inputs.
        """
        inputs = self.matrix.inputs
        self._enter(None, 0)
        self._loop(self.matrix.levels, inputs, 0, emit)
        if inputs % SPAN:
            emit(inputs // SPAN, inputs % SPAN)

    def _loop(
        self, sizes: tuple[int, ...], within: int, first: Expr, emit: Callable[[Expr, int], None]
    ) -> None:
        """Loop over groups of ``sizes[0]`` in one of ``within``, the first of which has the number given."""
        size, *smaller = sizes
        with T.serial(within // size) as index:
            number = first + index
            if not smaller:
                self._prefetch(number)
                emit(number, SPAN)
                return
            self._enter(size, number)
            self._loop(tuple(smaller), size, number * (size // smaller[0]), emit)

    def _enter(self, size: int | None, number: Expr) -> None:
        """Load the scales and offsets of group ``number`` of ``size``; a row's wait for its end."""
        if size is None and self.matrix.format.is_whole_by_row and not self._meet_floats:
            return
        for component in self.matrix.format.components[1:]:
            if component.size == size:
                self._known[component.name] = self._load(component.name, number)

    def _load(self, name: str, number: Expr) -> list[Vector]:
        lanes, matrix, factor = self.isa.lanes, self.matrix, self._factor(name)
        if matrix.format.has_whole_scales and name == "scales" and not self._meet_floats:
            return self._load_whole(number)
        vectors = [Vector("float32", lanes) for _ in range(self._parts)]
        for part, vector in enumerate(vectors):
            index = (self._block, number, part * lanes)
            vector.set(load_number(self._buffers[name], index, lanes, _stored_type(matrix, name, factor)))
            if factor.of is not None:
                vector.set(vector.value * self._known[f"super_{name}"][part].value)
        return vectors

    def _load_whole(self, number: Expr) -> list[Vector]:
        lanes, vectors = self.isa.lanes, [Vector("int32", self.isa.lanes) for _ in range(self._parts)]
        for part, vector in enumerate(vectors):
            stored = load(self._buffers["scales"], (self._block, number, part * lanes), lanes)
            vector.set(cast("int32", lanes, stored))
        return vectors

    def _factor(self, name: str) -> Factor:
        quant_format = self.matrix.format
        offset = quant_format.offset
        factor = offset.factor if offset is not None and name.endswith("offsets") else quant_format.scale
        if name.startswith("super_"):
            assert factor.of is not None
            return factor.of
        return factor

    def group(self, number: Expr) -> Group:
        """The scales and offsets of group ``number``: just loaded, where a loop goes over such groups."""
        size, offset = self.matrix.format.group_size, self.matrix.format.offset
        if size is not None and size <= SPAN:
            self._enter(size, number)
        scales = self._known["scales"]
        if offset is None:
            return Group(scales, None, None)
        offsets = [Vector("float32", self.isa.lanes) for _ in scales]
        for vector, known in zip(offsets, self._known["offsets"], strict=True):
            vector.set(self._signed_offset(known.value))
        if offset.role is OffsetRole.ZERO_POINT:
            return Group(scales, offsets, None)
        return Group(scales, None, offsets)

    def whole_scales(self, span: Expr) -> list[Vector]:
        """The whole scales of a span's group, int32, without their rows'."""
        size = self.matrix.format.group_size
        if size == SPAN:
            self._enter(size, span)
        return self._known["scales"]

    def row_factors(self) -> tuple[list[Vector], list[Vector] | None]:
        """The scales of whole rows, and what is taken off all of their codes if there is anything."""
        quant_format = self.matrix.format
        scales = self._load("super_scales" if quant_format.has_whole_scales else "scales", 0)
        if quant_format.offset is None:
            return scales, None
        offsets = self._load("offsets", 0)
        for vector in offsets:
            vector.set(self._signed_offset(vector.value))
        return scales, offsets

    def _signed_offset(self, offset: tirx.Expr) -> tirx.Expr:
        """A minimum to add, or a zero point of what codes are taken as."""
        role = self.matrix.format.offset
        assert role is not None
        if role.role is OffsetRole.SUBTRACTED:
            return broadcast(T.float32(0), self.isa.lanes) - offset
        if role.role is OffsetRole.ZERO_POINT and self.matrix.zero_point:
            return offset - broadcast(T.float32(self.matrix.zero_point), self.isa.lanes)
        return offset

    def _prefetch(self, span: Expr) -> None:
        """Ask for what is needed some spans later."""
        num_bytes = span_bytes(self.matrix.format)
        for line in range(num_bytes // 64):
            prefetch(self._buffers["codes"], (self._block, span * num_bytes + PREFETCH_BYTES + 64 * line))
        ahead = PREFETCH_BYTES // num_bytes
        for component in self.matrix.format.components[1:]:
            if component.name == "offsets" and are_paired(self.matrix.format):
                continue
            if component.size is not None and component.size <= SPAN:
                group = (span + ahead) * (SPAN // component.size)
                prefetch(self._buffers[component.name], (self._block, group, 0))

    # --- codes

    def fours_of(self, span: Expr) -> Callable[[int, int], Vector]:
        """What gives the codes of a four of a span, by number and part: bytes as they are stored.

        Bytes that fours share are loaded once.
        """
        isa, num_bytes = self.isa, span_bytes(self.matrix.format)
        loaded: dict[tuple[int, int], Vector] = {}

        def raw(vector: int, part: int) -> Vector:
            if (vector, part) not in loaded:
                loaded[vector, part] = Vector("uint8", isa.bytes)
                offset = span * num_bytes + vector * 4 * BLOCK + part * isa.bytes
                loaded[vector, part].set(load(self._buffers["codes"], (self._block, offset), isa.bytes))
            return loaded[vector, part]

        def four(number: int, part: int) -> Vector:
            planes = []
            for width, lowest in planes_of(self.matrix.format.bits):
                vector, slot = divmod(number, 8 // width)
                plane = raw(lowest + vector, part)  # planes of as many bits came before
                if width == 8:
                    return plane
                planes.append(_moved(isa, plane.value, slot * width - lowest, (1 << width) - 1 << lowest))
            codes = Vector("uint8", isa.bytes)
            codes.set(planes[0])
            for plane_bits in planes[1:]:
                codes.set(T.bitwise_or(codes.value, plane_bits))
            return codes

        return four

    def whole_numbers(self, codes: Vector) -> Vector:
        """What codes stand for plus the zero point, a vector of unsigned bytes."""
        book = self.matrix.format.codes
        if isinstance(book, Integers):
            return codes
        assert isinstance(book, CodeBook)
        table = tuple(int(value) + self.matrix.zero_point for value in book.table)
        found = Vector("uint8", self.isa.bytes)
        found.set(self.isa.look_up(_filled_up(table), codes.value))
        return found

    def floats(self, codes: Vector, column: int) -> tirx.Expr:
        """What the codes of one of four columns stand for, less their zero point, float32."""
        lanes, kind = self.isa.lanes, self.matrix.format.codes
        words = reinterpret(f"int32x{lanes}", codes.value)
        if isinstance(kind, Float8):
            by = 24 - 8 * column
            return widen_float8(T.shift_left(words, broadcast(T.int32(by), lanes)), lanes, kind.type)
        shifted = T.shift_right(words, broadcast(T.int32(8 * column), lanes)) if column else words
        apart = T.bitwise_and(shifted, broadcast(T.int32(255), lanes))
        if isinstance(kind, CodeBook):
            return self.isa.look_up_floats(_filled_up(tuple(map(float, kind.table))), apart)
        return cast("float32", lanes, apart - broadcast(T.int32(self.matrix.zero_point), lanes))


def _by_name(matrix: CodedMatrix, buffers: Sequence[Buffer]) -> Mapping[str, Buffer]:
    """A matrix' buffers by the names of the format's components, two of which may be in one."""
    pairs = {"offsets": "scales"} if are_paired(matrix.format) else {}
    names = [component.name for component in matrix.format.components]
    found = dict(zip((name for name in names if name not in pairs), buffers, strict=True))
    return found | {name: found[other] for name, other in pairs.items()}


def _stored_type(matrix: CodedMatrix, name: str, factor: Factor) -> str:
    """What :func:`load_number` takes the numbers called ``name`` for."""
    if not are_paired(matrix.format) or name.startswith("super_"):
        return factor.type
    return "high_half" if name == "offsets" else "low_half"


def _filled_up(table: tuple[_Number, ...]) -> tuple[_Number, ...]:
    """A table of as many values as machines look up in."""
    return table + table[:1] * (LARGEST_TABLE - len(table))


def _moved(isa: Isa, raw: tirx.Expr, shift: int, mask: int) -> tirx.Expr:
    """The bits of ``mask`` of each byte, after a shift to the right, or to the left where it is negative."""
    if shift:
        lanes = isa.bytes // 2
        words, by = reinterpret(f"uint16x{lanes}", raw), broadcast(T.uint16(abs(shift)), lanes)
        moved = T.shift_right(words, by) if shift > 0 else T.shift_left(words, by)
        raw = reinterpret(f"uint8x{isa.bytes}", moved)
    return T.bitwise_and(raw, broadcast(T.uint8(mask), isa.bytes))


def decode_row(
    matrix: CodedMatrix,
    buffers: Sequence[Buffer],
    block: Expr,
    lane: Expr,
    write: Callable[[Expr, tirx.Expr], None],
) -> None:
    """Emit ``write(column, value)`` for each element of one row: that of a block's outputs."""
    parts = _by_name(matrix, buffers)
    quant_format, num_bytes = matrix.format, span_bytes(matrix.format)
    kind = quant_format.codes
    least = kind.smallest if isinstance(kind, Integers) else 0
    table: Buffer | None = None
    if isinstance(kind, CodeBook):
        table = T.alloc_buffer((len(kind.table),), "float32")
        for place, value in enumerate(kind.table):
            store(table, place, T.float32(value))

    def factor(name: str, declared: Factor, column: Expr) -> tirx.Expr:
        number = 0 if declared.size is None else column // declared.size
        value = load_number(parts[name], (block, number, lane), 1, _stored_type(matrix, name, declared))
        return value if declared.of is None else value * factor(f"super_{name}", declared.of, column)

    def element(span: Expr, four: int, within: Expr) -> None:
        column = span * SPAN + four * 4 + within
        code: tirx.Expr = T.int32(0)
        for width, lowest in planes_of(quant_format.bits):
            vector, slot = divmod(four, 8 // width)
            place = span * num_bytes + (lowest + vector) * 4 * BLOCK + lane * 4 + within
            raw = T.shift_right(cast("int32", 1, load(parts["codes"], (block, place))), T.int32(slot * width))
            plane = T.bitwise_and(raw, T.int32((1 << width) - 1))
            code = T.bitwise_or(code, T.shift_left(plane, T.int32(lowest)))
        if table is not None:
            value = load(table, code)
        elif isinstance(kind, Float8):
            value = widen_float8(T.shift_left(code, T.int32(24)), 1, kind.type)
        else:
            value = cast("float32", 1, code + T.int32(least))
        scale, offset = factor("scales", quant_format.scale, column), quant_format.offset
        if offset is None:
            write(column, value * scale)
            return
        moved = factor("offsets", offset.factor, column)
        match offset.role:
            case OffsetRole.ADDED:
                write(column, value * scale + moved)
            case OffsetRole.SUBTRACTED:
                write(column, value * scale - moved)
            case OffsetRole.ZERO_POINT:
                write(column, (value - moved) * scale)

    for first, count, columns in (
        (0, matrix.inputs // SPAN, SPAN),
        (matrix.inputs // SPAN, 1, matrix.inputs % SPAN),
    ):
        if count and columns:
            with T.serial(count) as index:
                for four in range(-(-columns // 4)):
                    with T.serial(min(4, columns - 4 * four)) as within:
                        element(first + index, four, within)


def widen_float8(codes: tirx.Expr, lanes: int, type_: str) -> tirx.Expr:
    """Floats of eight bits, one in the highest byte of each int32, as float32; infinities become finite.

    Shifted to the right, but for the sign, they are float32 that are too small by a power of two, subnormal
    numbers and all.
    """
    exponent_bits, bias = (4, 7) if type_ == "float8_e4m3fn" else (5, 15)
    shift = 8 - exponent_bits
    shifted = T.shift_right(codes, broadcast(T.int32(shift), lanes))
    mask = ((0x7F << (24 - shift)) | 0x80000000) - (1 << 32)
    small = reinterpret(
        vector_type("float32", lanes), T.bitwise_and(shifted, broadcast(T.int32(mask), lanes))
    )
    return small * broadcast(T.float32(2.0 ** (127 - bias)), lanes)


def load_number(buffer: Buffer, index: tuple[Expr, ...], lanes: int, type_: str) -> tirx.Expr:
    """Neighbouring scales or offsets as float32: of ``type_``, or halves of bytes."""
    if type_ in ("float16", "bfloat16", "float32"):
        return load_float(buffer, index, lanes, "uint16" if type_ == "bfloat16" else type_)
    stored = cast("int32", lanes, load(buffer, index, lanes))
    if type_ == "low_half":
        stored = T.bitwise_and(stored, broadcast(T.int32(15), lanes))
    if type_ == "high_half":
        stored = T.shift_right(stored, broadcast(T.int32(4), lanes))
    if type_ == "e4m3":
        highest = T.shift_left(stored, broadcast(T.int32(24), lanes))
        return widen_float8(highest, lanes, "float8_e4m3fn")
    if type_ in ("e8m0", "e8m0_half"):
        # The two least ones, which are no normal float32, become zero.
        less = broadcast(T.int32(0 if type_ == "e8m0" else 1), lanes)
        exponent = tirx.max(stored - less, broadcast(T.int32(0), lanes))
        shifted = T.shift_left(exponent, broadcast(T.int32(23), lanes))
        return reinterpret(vector_type("float32", lanes), shifted)
    return cast("float32", lanes, stored)
