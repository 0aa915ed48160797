"""How fast a matrix in each format is multiplied: ``python tests/perf/format_speed.py [FORMAT...]``.

For each format a kernel for this host goes over more weights than any cache holds, with 1 row and with 8.
Printed are bits a weight, the best time of a product, how many gigabytes of weights a second that is, and its
share of what plain reading of memory reaches, measured in between, so that what else the machine does weighs
on both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import tvm
from ingot.codegen.kernels.code_products import rows_for
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.isa import isa_of
from ingot.codegen.kernels.layout import num_blocks
from ingot.codegen.kernels.linear import linear_quantized
from ingot.codegen.kernels.linear_float import linear_float
from ingot.codegen.kernels.probe import probe_kernels
from ingot.codegen.kernels.rows import Rows
from ingot.codegen.library import llvm_target
from ingot.ir import TensorType, find_format
from ingot.passes.quantize_weights import activations_for
from ingot.targets import parse_target
from ingot.targets.threads import use_all_cores

FORMATS = (
    *(
        "int4_g32_i5",
        "int4_g32",
        "int8_g32",
        "q4_0",
        "q4_1",
        "q5_0",
        "q8_0",
        "q2_k",
        "q3_k",
        "q4_k",
        "q5_k",
        "q6_k",
    ),
    *("iq4_nl", "iq4_xs", "mxfp4", "nvfp4", "int2_g32", "int3_g32", "int4_g128", "int4_g128_z", "int8_row"),
    *("fp8_e4m3_row", "fp8_e4m3_g128", "nf4_g64"),
)
_OUTPUTS, _INPUTS = 8192, 2048
_TOTAL_BYTES = 400 << 20
_PIECE_BYTES = 16 << 20
_ROUNDS = 5

Array = tvm.runtime.Tensor


class _Machine:
    def __init__(self, threads: int) -> None:
        target = parse_target("cpu")
        self.isa, self._llvm = isa_of(target), llvm_target(target)
        self._read = self.build("probe_read", probe_kernels(self.isa)["probe_read"])
        words = _PIECE_BYTES // threads // 4 // 128 * 128
        shape = threads, words
        self._pieces = [
            tvm.runtime.tensor(np.ones(shape, np.int32)) for _ in range(_TOTAL_BYTES // _PIECE_BYTES)
        ]
        self._sums = tvm.runtime.tensor(np.zeros((threads, 16), np.int32))

    def build(self, name: str, function: tvm.tirx.PrimFunc) -> Callable[..., None]:
        """The compiled kernel."""
        found: Callable[..., None] = tvm.compile(tvm.IRModule({name: function}), target=self._llvm)[name]
        return found

    def read(self) -> list[float]:
        """Seconds a byte that reading takes, one piece of memory after the other."""
        seconds = []
        for piece in self._pieces:
            started = time.perf_counter()
            self._read(piece, self._sums)
            seconds.append((time.perf_counter() - started) / _PIECE_BYTES)
        return seconds


def _best(seconds: list[float]) -> float:
    """What one in ten is faster than: what else the machine does lengthens times, and luck shortens some."""
    return sorted(seconds)[len(seconds) // 10]


def _random_weights(matrix: CodedMatrix, random: np.random.Generator) -> list[Array]:
    """Any codes, and scales that are numbers."""
    arrays = []
    for name, shape, dtype in matrix.arguments(num_blocks(matrix.outputs)):
        sizes = tuple(map(int, shape))
        if dtype.startswith("float"):
            array = np.full(sizes, 0.01, dtype)
        elif name == "codes":
            array = random.integers(0, 120, sizes, dtype)
        else:
            array = np.full(sizes, 56, dtype)
        arrays.append(tvm.runtime.tensor(array))
    return arrays


def _arguments(matrix: CodedMatrix, rows: int, random: np.random.Generator) -> list[Array]:
    """Activations, rounded where the format takes them so."""
    if activations_for(TensorType((matrix.outputs, matrix.inputs), matrix.format)) is None:
        return [tvm.runtime.tensor(random.standard_normal((rows, matrix.inputs), np.float32))]
    arrays = [np.full((rows, columns), 0.01, dtype) for _, columns, dtype in rows_for(matrix).columns]
    arrays[0][...] = random.integers(-127, 128, arrays[0].shape)
    return [tvm.runtime.tensor(array) for array in arrays]


def _measure(machine: _Machine, name: str, row_counts: tuple[int, ...]) -> str:
    matrix = CodedMatrix(_OUTPUTS, _INPUTS, find_format(name))
    random = np.random.default_rng(0)
    weights = [_random_weights(matrix, random)]
    num_bytes = sum(array.numpy().nbytes for array in weights[0])
    weights += [_random_weights(matrix, random) for _ in range(_TOTAL_BYTES // num_bytes)]
    if len(_arguments(matrix, 1, random)) == 1:
        view = Rows.dense(_INPUTS)
        kernel = machine.build("kernel", linear_float(machine.isa, "kernel", matrix, view, False))
    else:
        kernel = machine.build("kernel", linear_quantized(machine.isa, "kernel", matrix, False))
    text = f"{name:16}{8 * num_bytes / (_OUTPUTS * _INPUTS):7.3f}"
    for rows in row_counts:
        x = _arguments(matrix, rows, random)
        out = tvm.runtime.tensor(np.zeros((rows, _OUTPUTS), np.float32))
        products, reads = [], []
        for _ in range(_ROUNDS):
            reads += machine.read()
            for own in weights:
                started = time.perf_counter()
                kernel(*x, *own, out)
                products.append(time.perf_counter() - started)
        best = _best(products)
        share = _best(reads) * num_bytes / best
        text += f"{best * 1e6:10.0f}{num_bytes / best / 1e9:7.1f}{share:7.0%}"
    return text


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--rows", default="1,8", help="rows of activations, by comma")
    options = parser.parse_args()
    row_counts = tuple(map(int, options.rows.split(",")))
    machine = _Machine(use_all_cores())
    columns = "".join(f"{f'us ({rows})':>10}{'GB/s':>7}{'read':>7}" for rows in row_counts)
    print(f"{'format':16}{'bits':>7}{columns}")
    for name in options.formats:
        print(_measure(machine, name, row_counts), flush=True)


if __name__ == "__main__":
    main()
