"""Products of floats next to torch's: ``python tests/perf/float_products.py [--outputs N] [--inputs K]``.

For 1, 16, 128 and 512 rows, and for float32, float32 rows with bfloat16 weights, and bfloat16: the median
time of a product, what share of this host's arithmetic and of its reading of memory that is, both measured
here, and the time of torch (oneDNN) for the same. Weights are more than any cache holds, each product takes
others.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
import torch
import tvm
from ingot.codegen.kernels.float_product import FloatMatrix
from ingot.codegen.kernels.isa import DotsBfloat16, Isa, fma, isa_of
from ingot.codegen.kernels.layout import BLOCK, num_blocks, num_pairs
from ingot.codegen.kernels.linear_float import linear_float
from ingot.codegen.kernels.probe import probe_kernels
from ingot.codegen.kernels.rows import RoundedRows, Rows
from ingot.codegen.kernels.script import Buffer, T, Vector, kernel, load, store
from ingot.codegen.library import llvm_target
from ingot.targets import parse_target
from ingot.targets.threads import use_all_cores

_ROW_COUNTS = (1, 16, 128, 512)
_WEIGHT_BYTES = 300 << 20
_SECONDS = 0.25
_ROUNDS = 1_000_000
_SUMS = 20

Run = Callable[[int], None]


def _compiled(function: tvm.tirx.PrimFunc) -> Callable[..., None]:
    found: Callable[..., None] = tvm.compile(
        tvm.IRModule({"kernel": function}), target=llvm_target(parse_target("cpu"))
    )["kernel"]
    return found


def _median(run: Run) -> float:
    """Seconds; ``run`` is given a number that tells which weights to take."""
    seconds: list[float] = []
    for number in range(2):
        run(number)
    while len(seconds) < 5 or sum(seconds) < _SECONDS:
        started = time.perf_counter()
        run(len(seconds))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _arithmetic(isa: Isa, threads: int, of_pairs: bool) -> Run:
    """A round of products whose operands stay in registers."""
    dtype = "int32" if of_pairs else "float32"

    def body(operands: Buffer, sums: Buffer) -> None:
        with T.parallel(threads) as part:
            totals = [Vector("float32", isa.lanes) for _ in range(_SUMS)]
            factor, weight = Vector(dtype, isa.lanes), Vector(dtype, isa.lanes)
            factor.set(load(operands, (part, 0), isa.lanes))
            weight.set(load(operands, (part, isa.lanes), isa.lanes))
            for total in totals:
                total.fill(T.float32(0))
            with T.serial(_ROUNDS):
                for total in totals:
                    if of_pairs:
                        assert isinstance(isa, DotsBfloat16)
                        total.set(isa.dot_bfloat16(total.value, weight.value, factor.value))
                    else:
                        total.set(fma(isa.lanes, weight.value, factor.value, total.value))
            for total in totals[1:]:
                totals[0].set(totals[0].value + total.value)
            store(sums, (part, 0), totals[0].value, isa.lanes)

    arguments = [("operands", (threads, 2 * isa.lanes), dtype), ("sums", (threads, isa.lanes), "float32")]
    call = _compiled(kernel("kernel", arguments, body, helpers=isa.helpers if of_pairs else ""))
    operands = tvm.runtime.tensor(np.zeros((threads, 2 * isa.lanes), dtype))
    sums = tvm.runtime.tensor(np.zeros((threads, isa.lanes), np.float32))
    return lambda _: call(operands, sums)


def _reading(isa: Isa, threads: int) -> Run:
    function = probe_kernels(isa)["probe_read"].with_attr("global_symbol", "kernel")
    call = _compiled(function)
    shape = threads, (_WEIGHT_BYTES // 4 // threads) // 128 * 128
    memory = tvm.runtime.tensor(np.ones(shape, np.int32))
    sums = tvm.runtime.tensor(np.zeros((threads, 16), np.int32))
    return lambda _: call(memory, sums)


def _ours(isa: Isa, outputs: int, inputs: int, dtype: str, *, rounds: bool) -> Callable[[int], Run]:
    matrix = FloatMatrix(outputs, inputs, dtype)
    view = RoundedRows(inputs) if rounds else Rows.dense(inputs)
    call = _compiled(linear_float(isa, "kernel", matrix, view, False))
    random = np.random.default_rng(0)
    inside = (num_pairs(inputs), BLOCK, 2) if matrix.is_paired else (inputs, BLOCK)
    floats = random.standard_normal((num_blocks(outputs), *inside), np.float32)
    stored = floats.astype(ml_dtypes.bfloat16).view(np.uint16) if matrix.is_paired else floats
    weights = [tvm.runtime.tensor(stored) for _ in range(_WEIGHT_BYTES // stored.nbytes)]

    def of(num_rows: int) -> Run:
        rows = random.standard_normal((num_rows, view.stride), np.float32)
        x = tvm.runtime.tensor(rows.astype(ml_dtypes.bfloat16).view(np.uint16) if rounds else rows)
        out = tvm.runtime.tensor(np.zeros((num_rows, outputs), np.float32))
        return lambda number: call(x, weights[number % len(weights)], out)

    return of


def _torchs(outputs: int, inputs: int, dtype: torch.dtype) -> Callable[[int], Run]:
    count = _WEIGHT_BYTES // (outputs * inputs * dtype.itemsize)
    weights = [torch.randn(outputs, inputs, dtype=torch.float32).to(dtype) for _ in range(count)]

    def of(num_rows: int) -> Run:
        x = torch.randn(num_rows, inputs).to(dtype)
        return lambda number: torch.nn.functional.linear(x, weights[number % count])

    return of


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--outputs", type=int, default=8192)
    parser.add_argument("--inputs", type=int, default=2048)
    options = parser.parse_args(arguments)
    outputs, inputs = options.outputs, options.inputs
    threads = use_all_cores()
    torch.set_num_threads(threads)
    isa = isa_of(parse_target("cpu"))
    of_pairs = isinstance(isa, DotsBfloat16)

    def peak(pairs: bool) -> float:
        """Operations a second."""
        per_round = 2 * (2 if pairs else 1) * isa.lanes * _SUMS
        return threads * _ROUNDS * per_round / _median(_arithmetic(isa, threads, pairs))

    arithmetic = {False: peak(False), True: peak(True) if of_pairs else 0.0}
    read = _WEIGHT_BYTES / _median(_reading(isa, threads))
    print(f"{isa.name}, {threads} threads, {outputs} outputs of {inputs} inputs")
    of_floats, of_halves = (arithmetic[pairs] / 1e9 for pairs in (False, True))
    print(f"arithmetic {of_floats:.0f} GFLOPS in float32, {of_halves:.0f} in bfloat16")
    print(f"reading {read / 1e9:.1f} GB/s")
    print(f"{'':34}{'rows':>5}{'us':>9}{'GFLOPS':>8}{'of peak':>8}{'GB/s':>7}{'of read':>8}{'torch us':>10}")
    kinds = [
        ("float32", "float32", False, torch.float32),
        ("bfloat16 weights, float32 rows", "uint16", False, None),
        *([("bfloat16", "uint16", True, torch.bfloat16)] if of_pairs else []),
    ]
    for label, dtype, rounds, theirs in kinds:
        ours = _ours(isa, outputs, inputs, dtype, rounds=rounds)
        peer = None if theirs is None else _torchs(outputs, inputs, theirs)
        for rows in _ROW_COUNTS:
            seconds = _median(ours(rows))
            operations, size = 2 * rows * outputs * inputs, outputs * inputs * (2 if dtype == "uint16" else 4)
            torch_time = "" if peer is None else f"{_median(peer(rows)) * 1e6:10.0f}"
            print(
                f"{label:34}{rows:5}{seconds * 1e6:9.0f}{operations / seconds / 1e9:8.0f}"
                f"{operations / seconds / arithmetic[rounds]:8.0%}{size / seconds / 1e9:7.1f}"
                f"{size / seconds / read:8.0%}{torch_time}",
                flush=True,
            )


if __name__ == "__main__":
    main()
