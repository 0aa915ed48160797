"""Weights in a format written to a panel: a byte each."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from .coded import FOURS, CodedMatrix, CodedWeights
from .isa import Isa
from .layout import BLOCK, SPAN
from .panels import Panel
from .script import Buffer, Expr, T, Vector, broadcast, reinterpret, store

__all__ = ["widen_block"]


def widen_block(
    isa: Isa,
    matrix: CodedMatrix,
    weights: Sequence[Buffer],
    block: Expr,
    panel: Panel,
    memory: Buffer,
    number: Expr,
    zero_point: int,
) -> None:
    """Emit what writes block ``block`` of ``weights`` as block ``number`` of a panel in ``memory``.

    Rows of the matrix are whole numbers times one scale each; ``zero_point`` is the byte of zero.
    """
    reader = CodedWeights(isa, matrix, weights, block)
    parts = BLOCK // isa.lanes

    def span(index: Expr, columns: int) -> None:
        four = reader.fours_of(index)
        scaled = reader.whole_scales(index) if matrix.format.has_whole_scales else None
        by, offsets = [], []
        for part in range(parts):
            factor, offset = Vector("int32", isa.lanes), Vector("int32", isa.lanes)
            if scaled is not None:
                # A byte of 8 bits less than 16 times a scale less than 16 never carries into its neighbour.
                factor.set(scaled[part].value * broadcast(T.int32(0x10001), isa.lanes))
                byte = broadcast(T.int32(zero_point), isa.lanes) - scaled[part].value * broadcast(
                    T.int32(matrix.zero_point), isa.lanes
                )
                low = T.bitwise_and(byte, broadcast(T.int32(255), isa.lanes))
                offset.set(low * broadcast(T.int32(0x01010101), isa.lanes))
            by.append(factor)
            offsets.append(offset)
        for number_of_four in range(FOURS):
            for part in range(parts):
                codes = reader.whole_numbers(four(number_of_four, part))
                value = codes.value
                if scaled is not None:
                    value = _times(isa, value, by[part].value) + reinterpret(
                        f"uint8x{isa.bytes}", offsets[part].value
                    )
                elif moved := (zero_point - matrix.zero_point) % 256:
                    value = value + broadcast(T.uint8(moved), isa.bytes)
                place = panel.place(number, index * FOURS + number_of_four, part * isa.bytes)
                store(memory, place, value, isa.bytes)

    reader.for_spans(span)
    written = -(-matrix.inputs // SPAN) * FOURS
    for line in range(written, panel.num_lines):
        for part in range(parts):
            place = panel.place(number, line, part * isa.bytes)
            store(memory, place, broadcast(T.uint8(zero_point), isa.bytes), isa.bytes)


def _times(isa: Isa, codes: tirx.Expr, factors: tirx.Expr) -> tirx.Expr:
    """Bytes times a factor in both halves of each lane, two at once."""
    pairs = f"uint16x{isa.bytes // 2}"
    return reinterpret(f"uint8x{isa.bytes}", reinterpret(pairs, codes) * reinterpret(pairs, factors))
