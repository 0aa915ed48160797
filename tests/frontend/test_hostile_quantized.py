"""Damaged quantized checkpoints: what their configuration says, and what their tensors are said to be."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ingot.frontend.json_file import read_json
from ingot.frontend.weights import open_quantized, open_weights
from ingot.ir import QuantizedArray
from ingot.ir.errors import ConfigError

from ..quantized_checkpoints import LAYOUTS, write_matrix
from .test_hostile import Target, fuzz, little_memory, pytestmark  # noqa: F401  (a mark of the module)


def read_all(folder: Path) -> None:
    """Put the parts together, and read every tensor as far as there is one."""
    config = read_json(folder / "quantization_config.json")
    if not isinstance(config, dict):
        raise ConfigError("not an object")
    header = (folder / "header.json").read_bytes()
    values = (folder / "values").read_bytes()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + values)
    weights = open_quantized({"quantization_config": config}, open_weights(folder))
    for name in weights.names:
        if name in weights.types:
            array = weights.read(name)
            assert not isinstance(array, QuantizedArray) or array.shape == weights.types[name].shape


def take_apart(folder: Path, layout: str) -> Callable[[], None]:
    """A checkpoint of one matrix, its header and configuration in files of their own."""
    weight = np.random.default_rng(3).standard_normal((32, 96)).astype(np.float32)
    write_matrix(folder, LAYOUTS[layout], weight)
    content = (folder / "model.safetensors").read_bytes()
    stop = 8 + int.from_bytes(content[:8], "little")
    (folder / "header.json").write_bytes(content[8:stop])
    (folder / "values").write_bytes(content[stop:])
    (folder / "quantization_config.json").write_text(json.dumps(dict(LAYOUTS[layout].config)))
    return lambda: read_all(folder)


def check(folder: Path, layout: str, count: int, seed: int) -> None:
    read = take_apart(folder, layout)
    read()  # undamaged, it is read
    with little_memory(), np.errstate(all="ignore"):
        for name, header in (("quantization_config.json", 0), ("header.json", 0), ("values", 4096)):
            outcomes = fuzz(Target(folder / name, header, read, is_json=not header), count, seed)
            print(f"{layout}, {name}: {outcomes}")


@pytest.mark.parametrize(
    "layout",
    ["gptq 4 bits, zero points", "fp8 blocks", "bnb nf4 nested", "hqq 3 bits", "ct packed, zero points"],
)
def test_damaged_checkpoints(layout: str, tmp_path: Path) -> None:
    check(tmp_path, layout, 12, seed=6)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_checkpoints_at_length(layout: str, tmp_path: Path) -> None:
    check(tmp_path, layout, 3_000, seed=7)
