"""Instructions that an instruction set adds to another's, against what they are said to compute."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from ingot.codegen.kernels.isa import Isa, NeonI8mm
from ingot.codegen.kernels.script import Buffer, Vector, kernel, load, store

from .machines import Array, Machine, find_machine


@pytest.fixture(params=["x86-64-v3", "x86-64-v3-vnni", "x86-64-v4-vnni", "aarch64", "aarch64-i8mm"])
def dotting(request: pytest.FixtureRequest) -> Machine:
    """Machines whose dot products of bytes differ."""
    return machine_of(request.param)


def machine_of(name: str) -> Machine:
    found = find_machine(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


def bytes_of(isa: Isa, low: int, high: int, dtype: str) -> Array:
    random = np.random.default_rng(isa.lanes)
    return random.integers(low, high, isa.bytes, endpoint=True).astype(dtype)


@pytest.mark.parametrize(("zero_point", "largest"), [(8, 15), (128, 255)])
@pytest.mark.parametrize("extreme", [False, True])
def test_dot_products_of_bytes(dotting: Machine, zero_point: int, largest: int, extreme: bool) -> None:
    isa = dotting.isa

    def body(weights: Buffer, activations: Buffer, out: Buffer) -> None:
        sums = Vector("int32", isa.lanes)
        sums.set(load(out, 0, isa.lanes))
        operands = load(weights, 0, isa.bytes), load(activations, 0, isa.bytes)
        store(out, 0, isa.dot(sums.value, *operands, zero_point), isa.lanes)

    arguments = [("weights", (isa.bytes,), "uint8"), ("activations", (isa.bytes,), "int8")]
    built = dotting.build(kernel("kernel", [*arguments, ("out", (isa.lanes,), "int32")], body))
    weights = np.full(isa.bytes, largest, np.uint8) if extreme else bytes_of(isa, 1, largest, "uint8")
    activations = np.full(isa.bytes, -127, np.int8) if extreme else bytes_of(isa, -127, 127, "int8")
    out = np.arange(isa.lanes, dtype=np.int32)
    built(weights, activations, out)
    off = zero_point if isa.subtracts_zero_point(zero_point) else 0
    products = (weights.astype(int) - off) * activations
    np.testing.assert_array_equal(out, np.arange(isa.lanes) + products.reshape(-1, 4).sum(axis=1))


def test_products_of_matrices_of_bytes() -> None:
    machine = machine_of("aarch64-i8mm")
    isa = machine.isa
    assert isinstance(isa, NeonI8mm)

    def body(rows: Buffer, columns: Buffer, out: Buffer) -> None:
        sums = Vector("int32", 4)
        sums.set(load(out, 0, 4))
        store(out, 0, isa.multiply_pairs(sums.value, load(rows, 0, 16), load(columns, 0, 16)), 4)

    arguments = [("rows", (16,), "int8"), ("columns", (16,), "int8"), ("out", (4,), "int32")]
    built = machine.build(kernel("kernel", arguments, body))
    random = np.random.default_rng(3)
    rows, columns = random.integers(-128, 128, (2, 2, 8)).astype(np.int8)
    out = np.arange(4, dtype=np.int32)
    built(rows.reshape(-1), columns.reshape(-1), out)
    products = rows.astype(int) @ columns.astype(int).T
    np.testing.assert_array_equal(out, products.reshape(-1) + np.arange(4))


@pytest.mark.parametrize("name", ["x86-64-v4-bf16", "aarch64-i8mm"])
def test_dot_products_of_bfloat16(name: str) -> None:
    """Whole numbers that every order of sums gives exactly; a helper serves several kernels of a library."""
    machine = machine_of(name)
    isa, pairs = machine.isa, 2 * machine.isa.lanes

    def body(weights: Buffer, activations: Buffer, out: Buffer) -> None:
        sums = Vector("float32", isa.lanes)
        sums.set(load(out, 0, isa.lanes))
        operands = load(weights, 0, isa.lanes), load(activations, 0, isa.lanes)
        store(out, 0, isa.dot_bfloat16(sums.value, *operands), isa.lanes)

    arguments = [(name, (isa.lanes,), "int32") for name in ("weights", "activations")]
    arguments.append(("out", (isa.lanes,), "float32"))
    built = machine.build(kernel("kernel", arguments, body, helpers=isa.helpers))
    random = np.random.default_rng(4)
    weights, activations = random.integers(-99, 99, (2, pairs)).astype(ml_dtypes.bfloat16)
    out = np.arange(isa.lanes, dtype=np.float32)
    built(weights.view(np.int32), activations.view(np.int32), out)
    products = (weights.astype(np.float32) * activations.astype(np.float32)).reshape(-1, 2).sum(axis=1)
    np.testing.assert_array_equal(out, products + np.arange(isa.lanes))
