"""What ``machine.metal`` computes for kernels, where Metal has nothing that does: beside numpy and Python."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import ml_dtypes
import numpy as np
from ingot.codegen.gpu.kernel import DeviceFunction, source_of
from ingot.codegen.metal.machine import METAL

from ..cuda.emulated import needs_compiler
from .emulated import compile_shaders

pytestmark = needs_compiler

_INPUTS = ("GLOBAL const float* x", "GLOBAL const unsigned* a", "GLOBAL const unsigned* b")
_OUTPUTS = ("erf", "half", "bfloat", "dot", "less", "picked", "met")


def test_numbers_and_bytes(tmp_path: Path) -> None:
    """A block of 64 threads, each of which takes one number of each kind."""
    body = (
        "int i = here.thread_index() + here.block_x() * 64; SHARED_ARRAY(int, count, [1]); "
        "if (here.thread_index() == 0) count[0] = 0; block_barrier(); "
        "out_erf[i] = float_to_bits(error_function(x[i])); "
        "out_half[i] = float_to_bits(widen_half(narrow_half(x[i]))); "
        "out_bfloat[i] = float_to_bits(widen_bfloat16(narrow_bfloat16(x[i]))); "
        "out_dot[i] = unsigned(dot_bytes(a[i], b[i], 5)); out_less[i] = subtract_bytes(a[i], b[i]); "
        "out_picked[i] = permute_bytes(a[i], b[i], a[i] & 0x7777u); "
        "add_shared(count[0], here.warp() + 1); block_barrier(); "
        "out_met[i] = unsigned(count[0] + shuffle_xor(here.lane(), 3));"
    )
    parameters = (*_INPUTS, *(f"GLOBAL unsigned* out_{name}" for name in _OUTPUTS))
    text = source_of([DeviceFunction("tried", parameters, body, 64)], METAL)
    library = ctypes.CDLL(str(compile_shaders(text, tmp_path)))
    random, size = np.random.default_rng(1), 64 * 40
    x = (random.standard_normal(size) * 2).astype(np.float32)
    x[:6] = 0, 7, -7, 65519, 6e-8, 0.9
    a, b = random.integers(0, 1 << 32, (2, size), dtype=np.uint32)
    found = {name: np.zeros(size, np.uint32) for name in _OUTPUTS}
    values = [ctypes.c_uint64(array.ctypes.data) for array in (x, a, b, *found.values())]
    grid = (ctypes.c_int * 3)(size // 64, 1, 1)
    library.launch_tried(grid, 64, (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values)))

    erf = np.array([math.erf(value) for value in x.astype(np.float64)])
    assert np.abs(found["erf"].view(np.float32) - erf).max() < 1e-7
    np.testing.assert_array_equal(found["half"].view(np.float32), x.astype(np.float16).astype(np.float32))
    rounded = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(found["bfloat"].view(np.float32), rounded)
    left, right = a.view(np.uint8).reshape(-1, 4), b.view(np.uint8).reshape(-1, 4)
    dots = (left.astype(int) * right.view(np.int8)).sum(axis=1) + 5
    np.testing.assert_array_equal(found["dot"].view(np.int32), dots)
    np.testing.assert_array_equal(found["less"].view(np.uint8).reshape(-1, 4), left - right)
    selectors = a[:, None] >> np.arange(0, 16, 4, dtype=np.uint32) & 7
    picked = np.take_along_axis(np.concatenate([left, right], axis=1), selectors.astype(int), axis=1)
    np.testing.assert_array_equal(found["picked"].view(np.uint8).reshape(-1, 4), picked)
    np.testing.assert_array_equal(found["met"], 32 + 64 + (np.arange(size) % 32 ^ 3))
