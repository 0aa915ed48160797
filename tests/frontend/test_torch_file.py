"""Checkpoints that torch saved, read without torch and without running anything in them."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from ingot.frontend import load_model
from ingot.frontend.weights import open_weights
from ingot.frontend.weights.torch_file import TorchFile
from ingot.ir.errors import WeightError

from ..tiny_models import make_tiny
from .test_exactness import TOKEN_IDS, log_probs

torch = pytest.importorskip("torch")


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def test_tensors_of_all_types_and_orders(tmp_path: Path) -> None:
    whole = torch.randn(6, 5)
    tensors = {
        "float32": whole,
        "float16": whole.half(),
        "bfloat16": whole.bfloat16(),
        "int8": torch.arange(7, dtype=torch.int8),
        "int64": torch.arange(7),
        "transposed": whole.T,
        "part": whole[1:4, 2:],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    file = TorchFile(saved(tmp_path / "a.bin", tensors))
    assert set(file.entries) == set(tensors)
    for name, tensor in tensors.items():
        found = file.read(name)
        bits = tensor.detach().contiguous().view(torch.int16) if name == "bfloat16" else tensor.detach()
        wanted = bits.numpy().view(ml_dtypes.bfloat16) if name == "bfloat16" else bits.numpy()
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        assert not found.flags.writeable or name in ("transposed", "part")


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_beside_what_a_training_script_kept(tmp_path: Path, key: str) -> None:
    module = torch.nn.Linear(3, 2)
    file = TorchFile(saved(tmp_path / "a.pt", {"epoch": 3, "notes": ["x"], key: module.state_dict()}))
    assert set(file.entries) == {"weight", "bias"}


def test_a_model_is_the_same_as_in_safetensors(tmp_path: Path) -> None:
    folder = make_tiny("llama", tmp_path, dtype="bfloat16", tie_word_embeddings=True)
    weights = open_weights(folder)
    expected = log_probs(load_model(folder), TOKEN_IDS)
    tensors = {name: torch.from_numpy(np.array(weights.read(name)).view(np.int16)) for name in weights.names}
    tensors = {name: tensor.view(torch.bfloat16) for name, tensor in tensors.items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]  # as torch saves what is tied
    (folder / "model.safetensors").unlink()
    saved(folder / "pytorch_model.bin", tensors)
    model = load_model(folder)
    np.testing.assert_array_equal(log_probs(model, TOKEN_IDS), expected)
    assert {file.name for file in model.provenance()} >= {"config.json", "pytorch_model.bin"}

    (folder / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    shards = {"part-1.bin": names[:5], "part-2.bin": names[5:]}
    for shard, part in shards.items():
        saved(folder / shard, {name: tensors[name] for name in part})
    weight_map = {name: shard for shard, part in shards.items() for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    model = load_model(folder)
    np.testing.assert_array_equal(log_probs(model, TOKEN_IDS), expected)
    assert "pytorch_model.bin.index.json" in {file.name for file in model.provenance()}


class Calls:
    """What a pickle calls when it is read by :mod:`pickle`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda path: Calls(os.system, f"touch {path}"), "posix.system"),
        (lambda path: Calls(exec, f"open({str(path)!r}, 'w')"), "__builtin__.exec"),
        (lambda path: Calls(os.mkdir, str(path)), "posix.mkdir"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_run(tmp_path: Path, value: Callable[[Path], Any], name: str, protocol: int) -> None:
    witness = tmp_path / "witness"
    path = tmp_path / "a.bin"
    saved(path, {"weight": torch.ones(2), "x": value(witness)}, pickle_protocol=protocol)
    module = name.replace("__builtin__", "__builtin__" if protocol == 2 else "builtins")
    with pytest.raises(WeightError, match=rf"would call {module} when it is unpickled; nothing is run here"):
        TorchFile(path)
    assert not witness.exists()
    torch.load(path, weights_only=False)  # where it is run
    assert witness.exists()


def rewritten(path: Path, change: Callable[[str, bytes], bytes], **options: Any) -> Path:
    """A copy of a zip in which ``change`` was done to each member."""
    copy = path.with_name("rewritten.bin")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w", **options) as target:
        for member in source.infolist():
            target.writestr(member.filename, change(member.filename, source.read(member)))
    return copy


def test_files_that_are_not_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.bin", {"weight": torch.ones(4, 3)})

    def refused(copy: Path, message: str) -> None:
        with pytest.raises(WeightError, match=message):
            TorchFile(copy)

    def keep(name: str, data: bytes) -> bytes:
        return data

    def with_pickle(value: Any) -> Path:
        data = pickle.dumps(value, protocol=2)
        return rewritten(path, lambda name, old: data if name.endswith("data.pkl") else old)

    refused(rewritten(path, keep, compression=zipfile.ZIP_DEFLATED), "is compressed, which torch's never are")
    refused(rewritten(path, lambda name, data: b"big" if "byteorder" in name else data), "not little-endian")
    refused(
        rewritten(path, lambda n, d: d[:7] if n.endswith("/0") else d), r"does not fit into its storage of 1$"
    )
    refused(with_pickle({}), "holds no tensors")
    refused(with_pickle([1, 2]), "holds no dictionary of tensors by name")
    refused(with_pickle({"a": 3}), "holds 'a', a int where tensors are expected")
    refused(with_pickle({(1, 2): 3}), "key is neither text nor a number")
    refused(with_pickle({"a": {1, 2}}), "would call __builtin__.set")
    old = tmp_path / "old.bin"
    saved(old, {"weight": torch.ones(2)}, _use_new_zipfile_serialization=False)
    refused(
        old, "not a checkpoint of torch 1.6 or later, which are zip files .* save older ones with torch again"
    )
    refused(
        saved(tmp_path / "m.bin", torch.nn.Linear(2, 2)), "would call torch.nn.modules.linear.Linear|NEWOBJ"
    )
    refused(
        saved(tmp_path / "d.bin", {"a": torch.zeros(2).to(torch.float8_e4m3fn)}), "would call|not supported"
    )


def test_absurd_tensors_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(1 << 40, 1 << 20)
    path = saved(tmp_path / "a.bin", {"weight": huge})
    with pytest.raises(WeightError, match="does not fit into its storage of 1"):
        TorchFile(path)
