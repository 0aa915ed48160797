"""What a machine can do at most, measured with the instructions that the other kernels use.

Every library carries these functions beside the model's step, so that the runtime, which holds no compiler,
can tell how much of its machine a model gets. Their arguments have the same shapes for every instruction set.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from .amx import OF_BFLOAT16, OF_BYTES, TileOperands, TileProduct, multiply_tiles, release_tiles
from .coded import PREFETCH_BYTES
from .isa import Avx512Amx, DotsBfloat16, Isa, fma
from .script import Buffer, Expr, T, Vector, kernel, load, prefetch, store, symbol

__all__ = ["probe_kernels"]

_SUMS = 16
"""Elements that each thread writes, so that nothing it computed can be left out: the most lanes there are."""

_WORDS_IN_LINE = 16

_LINES_AT_ONCE = 8
"""Lines of cache that are added to sums of their own, so that no addition waits for another."""

_WEIGHT_BYTES = 1 << 14
"""Weights that the arithmetic goes over in each round; they stay in the first cache of any machine."""

_ROWS = 12
"""Sums that a vector of weights is added to: enough to hide the instructions' latency, and with as many rows
of activations still within 32 registers."""

_ROW_BYTES = 64

_TILES, _TILE_ROWS, _TURNS = 16, 64, 64
"""Tiles of weights, rows that fill all tiles of sums, and how often a round goes over the weights."""


def probe_kernels(isa: Isa) -> dict[str, tirx.PrimFunc]:
    """Every probe by the name it has in a library."""
    probes = {"probe_read": _read, "probe_int8": _int8, "probe_float32": _float32}
    found = {name: make(isa, name) for name, make in probes.items()}
    if isinstance(isa, DotsBfloat16):
        found["probe_bfloat16"] = _bfloat16(isa, "probe_bfloat16")
    if isinstance(isa, Avx512Amx):
        found["probe_int8_tiles"] = _tiles("probe_int8_tiles", OF_BYTES)
        found["probe_bfloat16_tiles"] = _tiles("probe_bfloat16_tiles", OF_BFLOAT16)
    return found


def _read(isa: Isa, name: str) -> tirx.PrimFunc:
    """Read memory once, each thread its own part from end to end, as products read their weights.

    Arguments: the memory int32 ``[threads, words]``, words a multiple of 128; results int32 ``[threads,
    16]``.
    """
    at_once = _WORDS_IN_LINE * _LINES_AT_ONCE

    def body(memory: Buffer, sums: Buffer) -> None:
        with T.parallel(memory.shape[0]) as part:
            totals = [Vector("int32", isa.lanes) for _ in range(_LINES_AT_ONCE)]
            for total in totals:
                total.fill(T.int32(0))
            with T.serial(memory.shape[1] // at_once) as index:
                lines = [index * at_once + line * _WORDS_IN_LINE for line in range(_LINES_AT_ONCE)]
                for line in lines:
                    prefetch(memory, (part, line + PREFETCH_BYTES // 4))
                for line, total in zip(lines, totals, strict=True):
                    for offset in range(0, _WORDS_IN_LINE, isa.lanes):
                        total.set(total.value + load(memory, (part, line + offset), isa.lanes))
            for total in totals[1:]:
                totals[0].set(totals[0].value + total.value)
            store(sums, (part, 0), totals[0].value, isa.lanes)

    threads = symbol("threads")
    arguments = [("memory", (threads, symbol("words")), "int32"), ("sums", (threads, _SUMS), "int32")]
    return kernel(name, arguments, body)


def _int8(isa: Isa, name: str) -> tirx.PrimFunc:
    """Products of bytes, as of 4-bit weights.

    Arguments: weights uint8 ``[16384]``, activations int8 ``[12, 64]``, how many rounds int32 ``[1]``;
    results int32 ``[threads, 16]``. In each round each thread multiplies every weight with one element of
    each row of activations.
    """
    return _multiply(isa, name, ("uint8", "int8", "int32"), lambda sums, w, x: isa.dot(sums, w, x, 8))


def _float32(isa: Isa, name: str) -> tirx.PrimFunc:
    """Products of floats; arguments are as those of :func:`_int8`, all float32 and a fourth as many."""
    floats = ("float32", "float32", "float32")
    return _multiply(isa, name, floats, lambda sums, w, x: fma(isa.lanes, w, x, sums))


def _bfloat16(isa: DotsBfloat16, name: str) -> tirx.PrimFunc:
    """Products of pairs of bfloat16; arguments are as those of :func:`_float32`, pairs being int32."""
    return _multiply(isa, name, ("int32", "int32", "float32"), isa.dot_bfloat16, isa.helpers)


def _tiles(name: str, product: TileProduct) -> tirx.PrimFunc:
    """Products of tiles; all lines of rows and weights are in the first cache.

    Arguments: weights int8 ``[16384]``, rows int8 ``[64, 64]``, how many rounds int32 ``[1]``; results int32
    ``[threads, 16]``, or float32 ones. In each round each thread multiplies the rows 64 times with all
    weights, 16 tiles of 16 lines.
    """

    def body(weights: Buffer, activations: Buffer, rounds: Buffer, sums: Buffer) -> None:
        with T.parallel(sums.shape[0]) as part:

            def finish(row: Expr, block: Expr, totals: tirx.Expr) -> None:
                store(sums, (part, 0), totals, _SUMS)

            operands = TileOperands(
                row=lambda row, step: T.address_of(load(activations, (row, 0))),
                row_stride=_ROW_BYTES,
                weights=lambda block, step: T.address_of(
                    load(weights, tirx.floormod(step, _TILES) * (_WEIGHT_BYTES // _TILES))
                ),
                steps=_TILES * _TURNS,
                blocks=1,
                most_blocks=1,
            )
            with T.serial(load(rounds, 0)):
                multiply_tiles(product, operands, T.int64(_TILE_ROWS), finish)
            release_tiles()

    arguments = [
        ("weights", (_WEIGHT_BYTES,), "int8"),
        ("activations", (_TILE_ROWS, _ROW_BYTES), "int8"),
        ("rounds", (1,), "int32"),
        ("sums", (symbol("threads"), _SUMS), product.sums),
    ]
    return kernel(name, arguments, body)


def _multiply(
    isa: Isa,
    name: str,
    types: tuple[str, str, str],
    multiply_add: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Expr],
    helpers: str = "",
) -> tirx.PrimFunc:
    """Weights come from the first cache, activations and sums are kept in registers where there are enough.

    ``types`` are those of weights, activations and sums; ``helpers`` what ``multiply_add`` calls.
    """
    weight_type, activation_type, sum_type = types
    size = 1 if weight_type == "uint8" else 4
    width = isa.bytes // size

    def body(weights: Buffer, activations: Buffer, rounds: Buffer, sums: Buffer) -> None:
        with T.parallel(sums.shape[0]) as part:
            factors = [Vector(activation_type, width) for _ in range(_ROWS)]
            totals = [Vector(sum_type, isa.lanes) for _ in range(_ROWS)]
            for row, (factor, total) in enumerate(zip(factors, totals, strict=True)):
                factor.set(load(activations, (row, 0), width))
                total.set(load(sums, (part, 0), isa.lanes))
            with T.serial(load(rounds, 0)), T.serial(_WEIGHT_BYTES // isa.bytes) as index:
                weight = Vector(weight_type, width)
                weight.set(load(weights, index * width, width))
                for factor, total in zip(factors, totals, strict=True):
                    total.set(multiply_add(total.value, weight.value, factor.value))
            for total in totals[1:]:
                totals[0].set(totals[0].value + total.value)
            store(sums, (part, 0), totals[0].value, isa.lanes)

    arguments = [
        ("weights", (_WEIGHT_BYTES // size,), weight_type),
        ("activations", (_ROWS, _ROW_BYTES // size), activation_type),
        ("rounds", (1,), "int32"),
        ("sums", (symbol("threads"), _SUMS), sum_type),
    ]
    return kernel(name, arguments, body, helpers=helpers)
