"""Launches begin before the one before them has ended: each waits before it reads what is computed."""

from __future__ import annotations

import ctypes
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from ingot.codegen.cuda.machine import CUDA
from ingot.codegen.gpu.kernel import DeviceFunction, source_of
from ingot.codegen.gpu.planning import Planning
from ingot.codegen.gpu.rules import RULES
from ingot.ir import Graph, GraphBuilder, ScalarType, TensorType
from ingot.runtime.execution.gpu.cuda_launch import LaunchWriter
from ingot.runtime.execution.gpu.device import KernelLaunch

from .emulated import emulated_driver, needs_compiler


def product(element: ScalarType) -> Graph:
    builder = GraphBuilder()
    token_ids = builder.input("token_ids", ("tokens",), ScalarType.INT32)
    table = builder.parameter("table", TensorType((9, 64), ScalarType.FLOAT32))
    weight = builder.parameter("weight", TensorType((32, 64), element))
    return builder.build(builder.emit("linear", builder.emit("embedding", table, token_ids), weight))


def test_a_kernel_waits_first_or_says_that_it_waits_itself() -> None:
    plain = CUDA.write_kernel(DeviceFunction("plain", (), "work();", 32))
    assert plain.index("let_next_launch_begin()") < plain.index("wait_for_launch_before()")
    assert plain.index("wait_for_launch_before()") < plain.index("work()")
    assert "wait_for" not in CUDA.write_kernel(DeviceFunction("own", (), "work();", 32, waits_itself=True))


@pytest.mark.parametrize("element", [ScalarType.BFLOAT16, ScalarType.FLOAT32])
def test_templates_that_wait_themselves_do_so(element: ScalarType) -> None:
    _, functions = Planning(product(element), CUDA, RULES).run(())
    text = source_of(functions, CUDA)
    called = {re.search(r"(multiply\w+)<", one.body)[1] for one in functions if one.waits_itself}  # type: ignore[index]
    assert called >= {"multiply_few"}
    for name in called:
        definitions = re.findall(rf"INGOT_DEVICE void {name}\([^{{]*\{{(.*?)\n\}}\n", text, re.DOTALL)
        assert any("wait_for_launch_before();" in body for body in definitions), name


@needs_compiler
def test_the_driver_is_told(emulation_folder: Path) -> None:
    driver = ctypes.CDLL(str(emulated_driver(emulation_folder)))
    before, launch = driver.emulated_early_launches(), KernelLaunch(None, (3, 2, 1), 64, (np.int32(7),), 80)
    for begins_early in (True, False):
        writer = LaunchWriter(ctypes.c_void_p())
        config, given = writer.write(launch, 80, begins_early=begins_early)
        assert struct.unpack_from("=6I", config) == (3, 2, 1, 64, 1, 1)
        assert driver.emulated_tell(config) == 80
        (address,) = (ctypes.c_uint64 * 1).from_address(given.value or 0)
        assert ctypes.c_int32.from_address(address).value == 7
    assert driver.emulated_early_launches() == before + 1
