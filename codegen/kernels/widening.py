"""Weights in a format as one byte each: what their rows are whole multiples of, zero being some byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tvm import tirx

from .coded import FOURS, CodedWeights
from .layout import BLOCK, SPAN
from .script import Buffer, Expr, T, Vector, broadcast, reinterpret, store

if TYPE_CHECKING:
    from .panels import Panel

__all__ = ["widen_block", "widened_fours"]


def widened_fours(reader: CodedWeights, span: Expr, zero_point: int) -> Callable[[int, int], tirx.Expr]:
    """What gives the bytes of a four of a span, by number and part, in a format that is whole by rows.

    Codes of less than 16 times scales of less than 16 do not carry from byte to byte.
    """
    isa, matrix = reader.isa, reader.matrix
    four, parts = reader.fours_of(span), BLOCK // isa.lanes
    if not matrix.format.has_whole_scales:
        moved = (zero_point - matrix.zero_point) % 256

        def plain(number: int, part: int) -> tirx.Expr:
            codes = reader.whole_numbers(four(number, part)).value
            return codes + broadcast(T.uint8(moved), isa.bytes) if moved else codes

        return plain

    def number(value: int) -> tirx.Expr:
        return broadcast(T.int32(value), isa.lanes)

    def spread(value: tirx.Expr, factor: int) -> Vector:
        """A number of less than 16 or 8 bits in both halves of lanes, or in all their bytes."""
        vector = Vector("int32", isa.lanes)
        vector.set(value * number(factor))
        return vector

    # A scale below zero is one above for codes counted from the other end, which is all bits turned.
    factors, turns, zeros = [], [], []
    for part in range(parts):
        scale, size = reader.whole_scales(span)[part], Vector("int32", isa.lanes)
        below = T.shift_right(scale.value, number(31))
        size.set(T.bitwise_xor(scale.value, below) - below)
        turns.append(spread(T.bitwise_and(below, number((1 << matrix.format.bits) - 1)), 0x01010101))
        zero = number(zero_point) - size.value * (number(matrix.zero_point) + below)
        factors.append(spread(size.value, 0x10001))
        zeros.append(spread(T.bitwise_and(zero, number(255)), 0x01010101))

    def scaled(number_of_four: int, part: int) -> tirx.Expr:
        pairs, bytes_ = f"uint16x{isa.bytes // 2}", f"uint8x{isa.bytes}"
        codes = reader.whole_numbers(four(number_of_four, part)).value
        codes = T.bitwise_xor(codes, reinterpret(bytes_, turns[part].value))
        product = reinterpret(pairs, codes) * reinterpret(pairs, factors[part].value)
        return reinterpret(bytes_, product) + reinterpret(bytes_, zeros[part].value)

    return scaled


def widen_block(reader: CodedWeights, panel: Panel, memory: Buffer, number: Expr, zero_point: int) -> None:
    """Emit what writes the block that ``reader`` reads as block ``number`` of a panel in ``memory``."""
    isa, parts = reader.isa, BLOCK // reader.isa.lanes

    def widen_span(span: Expr, columns: int) -> None:
        four = widened_fours(reader, span, zero_point)
        for number_of_four in range(FOURS):
            for part in range(parts):
                place = panel.place(number, span * FOURS + number_of_four, part * isa.bytes)
                store(memory, place, four(number_of_four, part), isa.bytes)

    reader.for_spans(widen_span)
    written = -(-reader.matrix.inputs // SPAN) * FOURS
    for line in range(written, panel.num_lines):
        for part in range(parts):
            place = panel.place(number, line, part * isa.bytes)
            store(memory, place, broadcast(T.uint8(zero_point), isa.bytes), isa.bytes)
