"""The emulator against numpy, through an assembler's own encodings; how to use it stands there."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from .emulator import Emulator, build_library

Array = npt.NDArray[np.generic]


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("instructions") / "instructions.so"
    build_library(Path(__file__).with_name("instructions.s"), library)
    return ctypes.CDLL(str(library))


def pointers(*arrays: Array) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]


def shapes(**tiles: tuple[int, int]) -> Array:
    """A configuration: rows and bytes a row of tiles called ``tmm0`` to ``tmm7``."""
    array = np.zeros(64, np.uint8)
    array[0] = 1
    for name, (num_rows, row_bytes) in tiles.items():
        number = int(name.removeprefix("tmm"))
        array[16 + 2 * number], array[48 + number] = row_bytes, num_rows
    return array


def test_moves(emulator: Emulator, functions: ctypes.CDLL) -> None:
    random = np.random.default_rng(1)
    source = random.integers(0, 256, (2, 512), np.uint8)
    result = np.full((2, 512), 0xA5, np.uint8)
    stored = np.full(64, 0xA5, np.uint8)
    from_, to, stored_to = pointers(source, result, stored)
    functions.move_forms(from_, to, ctypes.c_int64(512), stored_to)
    expected = source.copy()
    expected[1, 384:448] = source[0, 384:448]
    expected[0, 448:], expected[1, 448:] = 0, 0xA5
    np.testing.assert_array_equal(result, expected)
    rows = {f"tmm{number}": (1 if number == 7 else 2, 64) for number in range(8)}
    np.testing.assert_array_equal(stored, shapes(**rows))
    if emulator.stands_in_for("amx_int8"):
        counts = emulator.counts()
        assert counts["tileloadd"] == 7
        assert counts["tileloaddt1"] == 1
        assert counts["tilestored"] == 8
        assert counts["ldtilecfg"] == counts["sttilecfg"] == counts["tilerelease"] == counts["tilezero"] == 1


@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(16, 16, 64), (5, 16, 64), (16, 3, 64), (1, 7, 20)])
@pytest.mark.parametrize("name", ["tdpbssd", "tdpbsud", "tdpbusd", "tdpbuud"])
def test_products_of_bytes(
    emulator: Emulator, functions: ctypes.CDLL, name: str, rows: int, outputs: int, inputs: int
) -> None:
    random = np.random.default_rng(rows)
    of = {"s": np.int8, "u": np.uint8}
    a = np.full((16, 64), 99, np.uint8)
    b, c = a.copy(), random.integers(-(2**31), 2**31, (16, 16), np.int32)
    left = random.integers(0, 256, (rows, inputs), np.uint8)
    right = random.integers(0, 256, (inputs, outputs), np.uint8)
    a[:rows, :inputs] = left
    b[: inputs // 4, : 4 * outputs] = (
        right.reshape(-1, 4, outputs).transpose(0, 2, 1).reshape(inputs // 4, -1)
    )
    products = left.view(of[name[4]]).astype(np.int64) @ right.view(of[name[5]]).astype(np.int64)
    expected = c.copy()
    expected[:rows, :outputs] += products.astype(np.int32)
    shape = shapes(tmm2=(rows, 4 * outputs), tmm6=(rows, inputs), tmm7=(inputs // 4, 4 * outputs))
    getattr(functions, name)(*pointers(shape, a, b, c))
    np.testing.assert_array_equal(c, expected)


@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(16, 16, 32), (3, 5, 22)])
def test_products_of_bfloat16(
    emulator: Emulator, functions: ctypes.CDLL, rows: int, outputs: int, inputs: int
) -> None:
    random = np.random.default_rng(rows)
    left = random.standard_normal((rows, inputs)).astype(ml_dtypes.bfloat16)
    right = random.standard_normal((inputs, outputs)).astype(ml_dtypes.bfloat16)
    left[0, :2] = 1e-39  # denormals, which count as zero
    right[:2, 0] = 1e38
    c = random.standard_normal((16, 16)).astype(np.float32)
    a, b = np.zeros((16, 32), ml_dtypes.bfloat16), np.zeros((16, 32), ml_dtypes.bfloat16)
    a[:rows, :inputs] = left
    b[: inputs // 2, : 2 * outputs] = (
        right.reshape(-1, 2, outputs).transpose(0, 2, 1).reshape(inputs // 2, -1)
    )
    left[0, :2] = 0

    chains = np.zeros((2, rows, outputs), np.float32)
    for column in range(inputs):
        # Products of bfloat16 are exact in float64, and adding a float32 to one nearly always is.
        product = left[:, column, None].astype(np.float64) * right[column].astype(np.float64)
        chains[column % 2] = (chains[column % 2] + product).astype(np.float32)
    expected = c.copy()
    expected[:rows, :outputs] += chains[0] + chains[1]
    shape = shapes(tmm2=(rows, 4 * outputs), tmm6=(rows, 2 * inputs), tmm7=(inputs // 2, 4 * outputs))
    functions.tdpbf16ps(*pointers(shape, a, b, c))
    np.testing.assert_array_equal(c, expected)


BYTES = ["vpdpbusd", "vpdpbusds", "vpdpbuud", "vpdpbuuds", "vpdpbsud", "vpdpbsuds", "vpdpbssd", "vpdpbssds"]
WORDS = ["vpdpwssd", "vpdpwssds"]


@pytest.mark.parametrize(
    ("name", "bits"),
    [(name, 256) for name in (*BYTES, *WORDS)] + [(name, 128) for name in (*BYTES[:2], *WORDS)],
)
def test_vectors(emulator: Emulator, functions: ctypes.CDLL, name: str, bits: int) -> None:
    of_words, saturates = name.startswith("vpdpw"), name.endswith("ds")
    kinds = {"s": np.int16 if of_words else np.int8, "u": np.uint8}
    first_kind, second_kind = (kinds["s" if of_words else letter] for letter in name[5:7])
    random = np.random.default_rng(bits)
    first, second = (random.integers(0, 256, 32, np.uint8) for _ in range(2))
    sums = random.integers(-(2**31), 2**31, 8, np.int32)
    sums[:3] = 2**31 - 1, -(2**31), -1
    first[:12], second[:12] = 0x7F, [0x7F] * 4 + [0x80] * 4 + [0x7F] * 4

    lanes, is_unsigned = bits // 32, saturates and "buud" in name
    products = first.view(first_kind).astype(np.int64) * second.view(second_kind)
    before = sums.view(np.uint32) if is_unsigned else sums
    totals = before.astype(np.int64) + products.reshape(8, -1).sum(axis=1)
    if saturates:
        totals = totals.clip(0, 2**32 - 1) if is_unsigned else totals.clip(-(2**31), 2**31 - 1)
    expected = totals.astype(np.uint64).astype(np.uint32).view(np.int32)
    expected[lanes:] = 0  # what a narrow instruction writes has zeros above
    getattr(functions, f"{name}_{bits}")(*pointers(sums, first, second))
    np.testing.assert_array_equal(sums, expected)


REFUSED = """
import ctypes, sys
assert ctypes.CDLL(sys.argv[1]).emulator_install() == 0
shape = ctypes.create_string_buffer(bytes.fromhex(sys.argv[3]))
ctypes.CDLL(sys.argv[2]).tdpbssd(shape, *map(ctypes.create_string_buffer, [1024] * 3))
"""


@pytest.mark.parametrize(
    ("palette", "tiles", "sentence"),
    [
        (1, {"tmm2": (16, 64), "tmm6": (16, 64), "tmm7": (16, 64)}, ""),
        (2, {}, "a palette other than 1"),
        (0, {}, "tiles are used without ldtilecfg"),
        (1, {"tmm2": (16, 64), "tmm6": (16, 64)}, "a tile is used that was not configured"),
        (1, {"tmm2": (16, 0)}, "a tile with rows and no bytes"),
        (1, {"tmm2": (17, 64)}, "a tile of more than 16 rows"),
        (1, {"tmm2": (15, 64), "tmm6": (16, 64), "tmm7": (16, 64)}, "result has other rows"),
        (1, {"tmm2": (16, 64), "tmm6": (16, 60), "tmm7": (16, 64)}, "other words in a row"),
        (1, {"tmm2": (16, 60), "tmm6": (16, 64), "tmm7": (16, 64)}, "result has other bytes in a row"),
        (1, {"tmm2": (16, 62), "tmm6": (16, 64), "tmm7": (16, 62)}, "rows are not whole words"),
    ],
)
def test_what_hardware_refuses_ends_the_process(
    emulator: Emulator, functions: ctypes.CDLL, palette: int, tiles: dict[str, tuple[int, int]], sentence: str
) -> None:
    if not emulator.stands_in_for("amx_int8"):
        pytest.skip("this machine refuses by itself, and says nothing")
    shape = shapes(**tiles)
    shape[0] = palette
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        REFUSED,
        emulator.path,
        functions._name,
        shape.tobytes().hex(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == (-signal.SIGILL if sentence else 0), result.stderr
    assert sentence in result.stderr
