"""How fast attention is, next to what the machine can do and to torch's.

::

    python tests/perf/attention_time.py --libraries FOLDER --kv-cache float16

For one layer of 32 query and 8 KV heads of 64 prints the time of decoding and of prompts, the bytes of the
cache that were read a second or the products computed, as a share of what the probes of this machine reach,
and torch's time for the same. Libraries that are in FOLDER already are measured as they are, so that two
states of the code can be compared in turns.
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
import tvm
from ingot.codegen.kernels.attention import AttentionShape, paged_attention
from ingot.codegen.kernels.cache import Part
from ingot.codegen.kernels.isa import ISAS
from ingot.codegen.kernels.probe import probe_kernels
from ingot.codegen.kernels.rows import Rows
from ingot.codegen.library import llvm_target
from ingot.codegen.link import export_executable
from ingot.codegen.lowering.layouts import cached_heads
from ingot.ir import TensorType
from ingot.passes.cache_types import CacheType
from ingot.targets import CPUS, detect_host
from ingot.targets.threads import use_all_cores

HEADS, KV_HEADS, DIM, PAGE_SIZE = 32, 8, 64, 16
DECODES = [(1, 100), (1, 1000), (1, 8000), (8, 100), (8, 1000), (8, 8000), (16, 100), (16, 1000), (16, 8000)]
"""Sequences that decode a token each, and the context of each."""
PROMPTS = [(512, 512), (2048, 2048), (512, 4096 + 512)]
"""New tokens of one sequence, and its context with them."""
ROTATED_BYTES = 1 << 28
"""Caches that decoding walks in turns, so that none is left in the processor's."""


@dataclass(frozen=True)
class Limits:
    """What the probes reach: 10**9 bytes and 10**12 floating-point operations a second."""

    read: float
    products: float


def main() -> None:
    """Build what is not built yet, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--libraries", type=Path, required=True)
    parser.add_argument("--target", help="what to build for; the best that this machine runs, unless given")
    parser.add_argument("--kv-cache", type=CacheType, default=CacheType.FLOAT16)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each measurement")
    parser.add_argument("--only", choices=["decode", "prompt"])
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(use_all_cores())
    shape, library = _library(options)
    if options.build_only:
        return
    limits = _measure_limits(library, options.seconds)
    print(f"reads {limits.read:.1f} GB/s, float32 {limits.products:.3f} TFLOPS")
    for sequences, context in DECODES if options.only != "prompt" else ():
        caches = _Caches(shape, sequences, 1, context)
        ours = _median_time(caches.calls(library["attention"]), options.seconds)
        gb_s = caches.num_bytes / ours / 1e9
        theirs = "" if options.no_torch else _show(_torch_time(sequences, 1, context, options.seconds))
        share = gb_s / limits.read
        print(
            f"decode {sequences:2} x {context:5}: {ours * 1e6:9.1f} us {gb_s:6.1f} GB/s {share:6.1%}{theirs}"
        )
    for count, context in PROMPTS if options.only != "decode" else ():
        caches = _Caches(shape, 1, count, context)
        ours = _median_time(caches.calls(library["attention"]), options.seconds)
        pairs = count * (2 * context - count + 1) // 2
        tflops = 4 * pairs * HEADS * DIM / ours / 1e12
        theirs = "" if options.no_torch else _show(_torch_time(1, count, context, options.seconds))
        share = tflops / limits.products
        print(
            f"prompt {count:4} of {context:4}: {ours * 1e3:7.2f} ms {tflops:6.3f} TFLOPS {share:6.1%}{theirs}"
        )


def _library(options: argparse.Namespace) -> tuple[AttentionShape, Any]:
    name = options.target or max(
        (target for target in CPUS.values() if target.runs_on(detect_host())), key=lambda target: target.rank
    ).name.removeprefix("cpu:")
    target = CPUS[name]
    cache = TensorType(("pages", KV_HEADS, PAGE_SIZE, DIM), options.kv_cache.element((DIM, DIM)))
    element = cached_heads(cache, by_column=True).element
    shape = AttentionShape(HEADS, KV_HEADS, DIM, PAGE_SIZE, element, DIM**-0.5, window=0, value_dim=DIM)
    path = options.libraries / f"{name}-{options.kv_cache.value}.so"
    if not path.exists():
        options.libraries.mkdir(parents=True, exist_ok=True)
        isa = ISAS[target.isa]
        started = time.perf_counter()
        kernels = {"attention": paged_attention(isa, "attention", shape, Rows.dense(HEADS * DIM))}
        module = tvm.IRModule({**probe_kernels(isa), **kernels})
        export_executable(tvm.compile(module, target=llvm_target(target)), path, target.triple)
        print(f"built {path} in {time.perf_counter() - started:.1f} s")
    return shape, tvm.runtime.load_module(str(path))


class _Caches:
    """Sequences of one length, whose pages are in no order, as often as it takes to be in no cache."""

    def __init__(self, shape: AttentionShape, sequences: int, count: int, context: int) -> None:
        random = np.random.default_rng(0)
        width = -(-context // PAGE_SIZE)
        pages = sequences * width
        parts = [*shape.keys.parts, *shape.values.parts]
        self.num_bytes = sum(_bytes(part) for part in parts) * sequences * context // PAGE_SIZE
        times = min(64, max(1, ROTATED_BYTES // self.num_bytes)) if count == 1 else 1
        q = random.standard_normal((sequences * count, HEADS * DIM)).astype(np.float32)
        starts = np.arange(sequences + 1, dtype=np.int32) * count
        lengths = np.full(sequences, context, np.int32)
        self._arguments = []
        for _ in range(times):
            table = random.permutation(pages).astype(np.int32).reshape(sequences, width)
            arrays = [
                q,
                *(_filled(random, pages, part) for part in parts),
                starts,
                lengths,
                table,
                np.empty_like(q),
            ]
            self._arguments.append([_on_large_pages(array) for array in arrays])

    def calls(self, function: Callable[..., None]) -> list[Callable[[], None]]:
        """One call for each copy."""
        return [partial(function, *own) for own in self._arguments]


def _on_large_pages(array: Any) -> Any:
    """A tensor whose memory the system is asked to hold in large pages, as that of a model's cache is."""
    memory = mmap.mmap(-1, max(array.nbytes, 1))
    memory.madvise(mmap.MADV_HUGEPAGE)
    copy = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    copy[...] = array
    return tvm.runtime.from_dlpack(copy)


def _bytes(part: Part) -> int:
    return int(np.prod(part.shape)) * np.dtype(part.dtype).itemsize


def _filled(random: np.random.Generator, pages: int, part: Part) -> Any:
    shape = (pages, *part.shape)
    if part.dtype in ("int8", "uint8"):
        return random.integers(0, 127, shape).astype(part.dtype)
    numbers = random.standard_normal((min(pages, 64), *part.shape), np.float32)
    own = (
        numbers.astype(ml_dtypes.bfloat16).view(np.uint16)
        if part.dtype == "uint16"
        else numbers.astype(part.dtype)
    )
    return np.resize(own, shape)


def _median_time(calls: list[Callable[[], None]], seconds: float) -> float:
    times: list[float] = []
    for call in calls[:2]:
        call()
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(times) < 3:
        started = time.perf_counter()
        calls[len(times) % len(calls)]()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _torch_time(sequences: int, count: int, context: int, seconds: float) -> dict[str, float]:
    """Of each type, on keys and values that lie as torch likes them."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        copies = min(16, max(1, ROTATED_BYTES // (sequences * context * KV_HEADS * DIM * 2 * dtype.itemsize)))
        q = torch.randn(sequences, HEADS, count, DIM, dtype=dtype)
        kept = torch.randn(copies if count == 1 else 1, 2, sequences, KV_HEADS, context, DIM).to(dtype)
        mask = None
        if 1 < count < context:
            mask = torch.ones(count, context, dtype=torch.bool).tril(context - count)
        calls = [
            partial(
                torch.nn.functional.scaled_dot_product_attention,
                *(q, k, v),
                attn_mask=mask,
                is_causal=count == context,
                enable_gqa=True,
            )
            for k, v in kept
        ]
        found[name] = _median_time(calls, seconds)
    return found


def _show(theirs: dict[str, float]) -> str:
    return "   torch: " + ", ".join(f"{name} {seconds * 1e6:.0f} us" for name, seconds in theirs.items())


def _measure_limits(library: Any, seconds: float) -> Limits:
    threads = use_all_cores()
    words = np.arange(ROTATED_BYTES // 4, dtype=np.int32).reshape(threads, -1)
    memory = tvm.runtime.tensor(words)
    sums = tvm.runtime.tensor(np.zeros((threads, 16), np.int32))
    read = min(_times(lambda: library["probe_read"](memory, sums), seconds))
    weights, rows = np.ones(1 << 12, np.float32), np.ones((12, 16), np.float32)
    rounds = tvm.runtime.tensor(np.array([500], np.int32))
    arguments = [tvm.runtime.tensor(weights), tvm.runtime.tensor(rows), rounds]
    totals = tvm.runtime.tensor(np.zeros((threads, 16), np.float32))
    products = min(_times(lambda: library["probe_float32"](*arguments, totals), seconds))
    return Limits(ROTATED_BYTES / read / 1e9, 2 * weights.size * 12 * 500 * threads / products / 1e12)


def _times(call: Callable[[], None], seconds: float) -> list[float]:
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(times) < 3:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
