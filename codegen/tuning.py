"""How products are cut, found by measurement: other ways than the model's are timed on this machine.

What :func:`.kernels.tiling.find_tiling` says of a machine is where the search starts; from there one number
is changed at a time, and kept where the products of one row, of some and of many take less time together.
The order is drawn from a seed, and the search ends with the time it was given. Whatever is found, products
are the same bits: their rows are whole numbers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import tvm

from ..ir import Module, QuantFormat
from ..ir.errors import CompileError
from ..targets import Target, detect_host
from ..targets.threads import use_all_cores
from .kernels.code_products import rows_for
from .kernels.coded import CodedMatrix
from .kernels.isa import Tiling, isa_of
from .kernels.layout import num_blocks
from .kernels.linear import linear_quantized
from .kernels.tiling import find_tiling
from .library import llvm_target

__all__ = ["find_matrix", "read_tiling", "tiling_record", "tune"]

_ROW_COUNTS = (1, 16, 128)
"""Decoding one request, and several, and a prompt."""

_CHOICES: Mapping[str, tuple[int, ...]] = {
    "rows": (4, 8, 16),
    "widened_rows": (4, 8, 16, 32),
    "panel_rows": (24, 32, 48, 64, 96, 192),
    "panel_blocks": (1, 2, 4, 8),
}

_WEIGHT_BYTES = 96 << 20
"""Weights that are gone over, so that no cache holds them."""

_REPEATS = 3


@dataclass(frozen=True, slots=True)
class _Timer:
    """Times the products of one matrix on this machine."""

    matrix: CodedMatrix
    target: Target
    weights: tuple[tuple[object, ...], ...]

    def seconds(self, tiling: Tiling) -> tuple[float, ...]:
        """What a product takes at best, for each of :data:`_ROW_COUNTS`."""
        isa = replace(isa_of(self.target), tiling=tiling)
        function = linear_quantized(isa, "product", self.matrix, False)
        module = tvm.compile(tvm.IRModule({"product": function}), target=llvm_target(self.target))
        return tuple(self._best(module["product"], count) for count in _ROW_COUNTS)

    def _best(self, product: object, count: int) -> float:
        rows = [np.ones((count, width), dtype) for _, width, dtype in rows_for(self.matrix).columns]
        x = [tvm.runtime.tensor(array) for array in rows]
        out = tvm.runtime.tensor(np.zeros((count, self.matrix.outputs), np.float32))
        best = float("inf")
        for _ in range(_REPEATS):
            for arrays in self.weights:
                started = time.perf_counter()
                product(*x, *arrays, out)  # type: ignore[operator]
                best = min(best, time.perf_counter() - started)
        return best


def tune(module: Module, target: Target, *, seconds: float, seed: int = 0) -> Tiling:
    """The cut of products that was fastest on this machine, within about so many seconds.

    Raises :class:`CompileError` where this machine does not run ``target``, or the model has no product of
    rows and weights in whole numbers.
    """
    if not target.runs_on(detect_host()):
        raise CompileError(f"{target.name} cannot be tuned here: this machine does not run it")
    use_all_cores()
    matrix = find_matrix(module)
    ends, timer = time.perf_counter() + seconds, _Timer(matrix, target, tuple(_weights(matrix)))
    best = find_tiling(isa_of(target), matrix.inputs)
    first = best_seconds = timer.seconds(best)
    for name, number in _neighbours(seed):
        if time.perf_counter() > ends:
            break
        candidate = replace(best, **{name: number})
        if candidate == best:
            continue
        found = timer.seconds(candidate)
        if _relative(found, first) < _relative(best_seconds, first):
            best, best_seconds = candidate, found
    return best


def _neighbours(seed: int) -> Iterator[tuple[str, int]]:
    """Every number that could be another, in an order drawn from ``seed``."""
    changes = [(name, number) for name, numbers in _CHOICES.items() for number in numbers]
    random.Random(seed).shuffle(changes)
    return iter(changes)


def _relative(seconds: tuple[float, ...], first: tuple[float, ...]) -> float:
    """All row counts together, each by what it took at first."""
    return sum(now / before for now, before in zip(seconds, first, strict=True))


def find_matrix(module: Module) -> CodedMatrix:
    """The largest weight of a linear whose rows are whole numbers."""
    found: dict[CodedMatrix, int] = {}
    for operation in module.forward.operations:
        if operation.operator != "linear":
            continue
        type_ = operation.operands[1].type
        if isinstance(type_.element, QuantFormat) and type_.element.is_whole_by_row:
            outputs, inputs = (int(dim) for dim in type_.shape)
            matrix = CodedMatrix(outputs, inputs, type_.element)
            found[matrix] = found.get(matrix, 0) + outputs * inputs
    if not found:
        raise CompileError(
            "there is nothing to tune: no weight of this model is whole numbers with one scale a row, "
            "as int4 has"
        )
    return max(found, key=lambda matrix: (found[matrix], matrix.outputs))


def _weights(matrix: CodedMatrix) -> Iterator[tuple[object, ...]]:
    """Different weights, any ones, of :data:`_WEIGHT_BYTES` together."""
    drawn, num_bytes = np.random.default_rng(0), 0
    while num_bytes < _WEIGHT_BYTES:
        arrays = []
        for name, shape, dtype in matrix.arguments(num_blocks(matrix.outputs)):
            sizes = tuple(map(int, shape))
            if name == "codes":
                array = drawn.integers(0, 120, sizes, dtype)
            else:
                array = np.full(sizes, 0.01 if dtype.startswith("float") else 3, dtype)
            num_bytes += array.nbytes
            arrays.append(tvm.runtime.tensor(array))
        yield tuple(arrays)


def tiling_record(tiling: Tiling) -> dict[str, int]:
    """What a manifest keeps."""
    return asdict(tiling)


def read_tiling(record: Mapping[str, int]) -> Tiling | None:
    """What a manifest kept; None where nothing was tuned."""
    return Tiling(**record) if record else None
