"""Damaged files of every format: a sentence or a model, in little time and memory, and nothing else."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ingot.frontend import load_model
from ingot.frontend.weights import open_weights
from ingot.ir.errors import IngotError
from ingot.runtime.text.tokenizer import Tokenizer

from ..gguf_files import write_gguf
from ..tiny_models import make_tiny
from ..vector_models import make_embedder
from .hostile import damage, damage_json

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is bounded as Linux does"
)

LONGEST_SECONDS = 2.0
"""Of the processor, for a file of a few hundred kilobytes."""

LONGEST_MESSAGE = 20_000
"""Characters, with paths and names that may be long."""

MOST_MEMORY = 512 << 20
"""Bytes that reading may take beside what the process has; what asks for more is told that there is none."""


@dataclass(frozen=True)
class Target:
    """A file to damage, and what then reads it and all that is in it."""

    path: Path
    header: int
    read: Callable[[], object]
    is_json: bool = False


def read_all(folder: Path) -> None:
    weights = open_weights(folder)
    for name in weights.names:
        if name in weights.types:
            weights.read(name)


def read_gguf(path: Path) -> None:
    model = load_model(path)
    assert model.tokenizer is not None
    model.tokenizer()
    for name in model.weights.names:
        if name in model.weights.types:
            model.weights.read(name)


def gguf_target(tmp_path: Path) -> Target:
    folder = make_tiny("llama", tmp_path, num_hidden_layers=1)
    path = write_gguf(folder, tmp_path / "tiny.gguf", choose=lambda name, shape: "F16")
    data = path.read_bytes()
    # Most of the header is tokens; what else there is must be hit too.
    return Target(path, len(data) - 90_000, lambda: read_gguf(path))


def safetensors_target(tmp_path: Path) -> Target:
    folder = make_tiny("llama", tmp_path, num_hidden_layers=1)
    path = folder / "model.safetensors"
    return Target(path, 8 + int.from_bytes(path.read_bytes()[:8], "little"), lambda: read_all(folder))


def index_target(tmp_path: Path) -> Target:
    folder = make_tiny("llama", tmp_path, num_hidden_layers=1, shard_size="40KB")
    return Target(folder / "model.safetensors.index.json", 0, lambda: read_all(folder), is_json=True)


def torch_target(tmp_path: Path) -> Target:
    import torch

    path = tmp_path / "pytorch_model.bin"
    torch.save({f"layer.{number}.weight": torch.ones(3, 4 + number) for number in range(4)}, path)
    return Target(path, len(path.read_bytes()), lambda: read_all(tmp_path))


def config_target(tmp_path: Path) -> Target:
    folder = make_tiny("gemma3_text", tmp_path, num_hidden_layers=2)
    return Target(folder / "config.json", 0, lambda: load_model(folder, frontend="native"), is_json=True)


def mixture_config_target(tmp_path: Path) -> Target:
    folder = make_tiny("deepseek_v3", tmp_path, num_hidden_layers=2)
    return Target(folder / "config.json", 0, lambda: load_model(folder, frontend="native"), is_json=True)


def tokenizer_target(tmp_path: Path) -> Target:
    folder = make_tiny("llama", tmp_path, num_hidden_layers=1)
    return Target(folder / "tokenizer.json", 0, lambda: Tokenizer.load(folder), is_json=True)


def tokenizer_config_target(tmp_path: Path) -> Target:
    folder = make_tiny("llama", tmp_path, num_hidden_layers=1)
    return Target(folder / "tokenizer_config.json", 0, lambda: Tokenizer.load(folder), is_json=True)


def sentence_transformer_targets(name: str) -> Callable[[Path], Target]:
    def target(tmp_path: Path) -> Target:
        folder = make_embedder("bert", tmp_path, max_seq_length=20, prompts={"query": "q: "}).folder
        return Target(folder / name, 0, lambda: load_model(folder), is_json=True)

    return target


TARGETS: Mapping[str, Callable[[Path], Target]] = {
    "gguf": gguf_target,
    "safetensors": safetensors_target,
    "safetensors index": index_target,
    "torch": torch_target,
    "config.json": config_target,
    "config.json of experts": mixture_config_target,
    "tokenizer.json": tokenizer_target,
    "tokenizer_config.json": tokenizer_config_target,
    **{
        name: sentence_transformer_targets(name)
        for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json")
    },
    "an encoder's config.json": sentence_transformer_targets("config.json"),
}


def fuzz(target: Target, count: int, seed: int) -> dict[str, int]:
    """Damage the file ``count`` times; how often it was refused, and how often it was read all the same."""
    content, random_ = target.path.read_bytes(), random.Random(seed)
    outcomes = {"refused": 0, "read": 0}
    for number in range(count):
        hurt = damage_json(content, random_) if target.is_json else damage(content, random_, target.header)
        target.path.write_bytes(hurt)
        started = time.process_time()  # others may have the processor
        message = ""
        try:
            target.read()
        except IngotError as error:
            message = str(error)
        except Exception as error:
            kept = target.path.with_name(f"mutation-{number}")
            kept.write_bytes(hurt)
            raise AssertionError(f"mutation {number} of seed {seed}, kept in {kept}: {error!r}") from error
        seconds = time.process_time() - started
        outcomes["refused" if message else "read"] += 1
        assert seconds < LONGEST_SECONDS, f"mutation {number} of seed {seed} took {seconds:.1f} s"
        assert len(message) < LONGEST_MESSAGE, "a sentence, not the file"
    target.path.write_bytes(content)
    return outcomes


@contextmanager
def little_memory() -> Iterator[None]:
    """Bounds the addresses that the process may use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def check(name: str, tmp_path: Path, count: int, seed: int) -> None:
    target = TARGETS[name](tmp_path)
    target.read()  # undamaged, it is read
    with little_memory():
        outcomes = fuzz(target, count, seed)
    print(f"{name}: {outcomes}")
    assert outcomes["refused"] > count // 20, "hardly any damage was seen"


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, 100, seed=6)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_at_length(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, 10_000, seed=7)
