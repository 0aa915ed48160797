"""The probes do the work that they are timed for: nothing is left out, nothing done twice."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from ingot.codegen.kernels.isa import DotsBfloat16
from ingot.codegen.kernels.probe import probe_kernels

from .machines import Kernel, Machine, find_machine

_ROUNDS = 3


def _build(machine: Machine, name: str) -> Kernel:
    return machine.build(probe_kernels(machine.isa)[name].with_attr("global_symbol", "kernel"))


def test_memory_is_read_once(machine: Machine) -> None:
    kernel = _build(machine, "probe_read")
    random = np.random.default_rng(0)
    for threads, words in ((1, 128), (2, 1280), (3, 4096)):
        memory = random.integers(-(2**20), 2**20, (threads, words), np.int32)
        sums = np.zeros((threads, 16), np.int32)
        kernel(memory, sums)
        np.testing.assert_array_equal(sums.sum(axis=1), memory.sum(axis=1))


@pytest.mark.parametrize("threads", [1, 3])
def test_every_weight_meets_every_row_in_each_round(machine: Machine, threads: int) -> None:
    kernel = _build(machine, "probe_int8")
    random = np.random.default_rng(1)
    weights = random.integers(0, 16, 1 << 14, np.uint8)
    activations = random.integers(-127, 128, (12, 64), np.int8)
    sums = np.zeros((threads, 16), np.int32)
    kernel(weights, activations, np.array([_ROUNDS], np.int32), sums)
    vectors = weights.astype(int).reshape(-1, machine.isa.bytes)
    once = (vectors @ activations[:, : machine.isa.bytes].T.astype(int)).sum()
    np.testing.assert_array_equal(sums.sum(axis=1), np.full(threads, _ROUNDS * once))


def test_floats_likewise(machine: Machine) -> None:
    kernel = _build(machine, "probe_float32")
    random = np.random.default_rng(2)
    # Small whole numbers, so that no sum is rounded.
    weights = random.integers(0, 16, 1 << 12).astype(np.float32)
    activations = random.integers(-8, 9, (12, 16)).astype(np.float32)
    sums = np.zeros((2, 16), np.float32)
    kernel(weights, activations, np.array([_ROUNDS], np.int32), sums)
    once = (weights.reshape(-1, machine.isa.lanes) @ activations[:, : machine.isa.lanes].T).sum()
    np.testing.assert_array_equal(sums.sum(axis=1), np.full(2, _ROUNDS * once))


def test_pairs_of_bfloat16_likewise(machine: Machine) -> None:
    if not isinstance(machine.isa, DotsBfloat16):
        pytest.skip("the instruction set has no products of bfloat16")
    kernel = _build(machine, "probe_bfloat16")
    random = np.random.default_rng(3)
    weights = random.integers(0, 4, 1 << 13).astype(ml_dtypes.bfloat16)
    activations = random.integers(-2, 3, (12, 32)).astype(ml_dtypes.bfloat16)
    sums = np.zeros((2, 16), np.float32)
    kernel(weights.view(np.int32), activations.view(np.int32), np.array([_ROUNDS], np.int32), sums)
    lanes = 2 * machine.isa.lanes
    vectors = weights.astype(np.float32).reshape(-1, lanes)
    once = (vectors @ activations[:, :lanes].T.astype(np.float32)).sum()
    np.testing.assert_array_equal(sums.sum(axis=1), np.full(2, _ROUNDS * once))


@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
def test_tiles_likewise(kind: str) -> None:
    machine = find_machine("sapphirerapids")
    if isinstance(machine, str):
        pytest.skip(machine)
    kernel = _build(machine, f"probe_{kind}_tiles")
    random = np.random.default_rng(4)
    if kind == "int8":
        weights, rows = (random.integers(-8, 8, size, np.int8) for size in (1 << 14, 64 * 64))
        sums, pair = np.zeros((1, 16), np.int32), 4
    else:
        values = (random.integers(-2, 3, size).astype(ml_dtypes.bfloat16) for size in (1 << 13, 64 * 32))
        weights, rows = values
        sums, pair = np.zeros((1, 16), np.float32), 2
    kernel(weights.view(np.int8), rows.view(np.int8).reshape(64, 64), np.array([1], np.int32), sums)
    # The last row's: each tile has lines of 16 outputs and the inputs that are multiplied at once.
    last = rows.reshape(64, -1)[-1].astype(np.float64).reshape(16, 1, pair)
    tiles = weights.astype(np.float64).reshape(16, 16, 16, pair)
    np.testing.assert_array_equal(sums[0], 64 * (tiles * last).sum(axis=(0, 1, 3)))
