from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ingot.frontend.weights import SafetensorsFile, hash_files, open_weights
from ingot.ir.errors import WeightError
from ingot.ir.types import ScalarType, TensorType

from .tiny_folder import BFLOAT16, safetensors_bytes, tiny_files, tiny_tensors, write_files

arrays = hnp.arrays(
    dtype=st.sampled_from([np.dtype(name) for name in ("float32", "float16", "int64", "int8")] + [BFLOAT16]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    elements=st.integers(-100, 100),
)


@given(
    tensors=st.dictionaries(
        st.text(max_size=8).filter(lambda name: name != "__metadata__"), arrays, max_size=5
    )
)
def test_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, npt.NDArray[np.generic]]
) -> None:
    path = tmp_path_factory.mktemp("written") / "model.safetensors"
    path.write_bytes(safetensors_bytes(tensors))
    file = SafetensorsFile(path)
    assert set(file.entries) == set(tensors)
    for name, array in tensors.items():
        found = file.read(name)
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_reads_what_safetensors_writes(tmp_path: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {"b": torch.randn(3, 5), "a": torch.randn(7), "c": torch.randn(2, 3, 4)}
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    weights = open_weights(tmp_path)
    for name, tensor in tensors.items():
        assert weights.types[name] == TensorType(tuple(tensor.shape), ScalarType(dtype))
        np.testing.assert_array_equal(weights.read(name).astype(np.float32), tensor.float().numpy())


def test_reading_copies_nothing_and_cannot_write(tmp_path: Path) -> None:
    weights = open_weights(write_files(tmp_path, tiny_files()))
    first, again = (weights.read("lm_head.weight") for _ in range(2))
    assert np.shares_memory(first, again)
    assert not first.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_shards_are_one_source(tmp_path: Path) -> None:
    weights = open_weights(write_files(tmp_path, tiny_files(shards=3)))
    tensors = tiny_tensors()
    assert list(weights.names) == sorted(tensors)
    assert len(weights.files) == 3
    assert weights.num_bytes == sum(path.stat().st_size for path in weights.files)
    for name, array in tensors.items():
        np.testing.assert_array_equal(weights.read(name), array)


def test_unknown_name(tmp_path: Path) -> None:
    weights = open_weights(write_files(tmp_path, tiny_files()))
    with pytest.raises(WeightError, match=r"there is no tensor 'nothing' in .*model\.safetensors"):
        weights.read("nothing")


def test_hashes(tmp_path: Path) -> None:
    folder = write_files(tmp_path, {"a": b"x" * 100_000, "b": b""})
    first, second = hash_files([folder / "a", folder / "b"])
    assert (first.name, first.num_bytes) == ("a", 100_000)
    assert first.sha256 == hashlib.sha256(b"x" * 100_000).hexdigest()
    assert second.sha256 == hashlib.sha256(b"").hexdigest()
    with pytest.raises(WeightError, match="cannot be read: No such file"):
        hash_files([folder / "c"])


def _header(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def _tensor(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with a header's length"),
        (b"\x80\x02}q\x00" * 8, "does not begin with a header's length"),
        (_header({"a": _tensor()})[:20], r"is truncated: its header alone needs \d+ bytes, the file has 20"),
        (
            _header({"a": _tensor()}, b"1234567"),
            r"is truncated: its tensors need \d+ bytes, the file has \d+; copy",
        ),
        (
            _header({"a": _tensor()}, b"123456789"),
            r"corrupt header: its tensors end at byte \d+, the file at \d+",
        ),
        (_header(b"{'a': 1}"), "corrupt header: not JSON"),
        (_header(b"\xff\xfe"), "corrupt header: not JSON"),
        (_header([1]), "corrupt header: not a JSON object"),
        (_header({"a": 1}), "tensor 'a' has no dtype, shape and data_offsets"),
        (_header({"a": _tensor(dtype="F33")}, bytes(8)), "tensor 'a' is of the unknown type 'F33'"),
        (_header({"a": _tensor(shape=[3])}, bytes(8)), r"tensor 'a' takes 8 bytes where F32\[3\] is 12"),
        (
            _header({"a": _tensor(shape=[-2])}, bytes(8)),
            "tensor 'a' has a shape or offsets that are not counts",
        ),
        (
            _header({"a": _tensor(data_offsets=[8, 16])}, bytes(16)),
            r"tensor 'a' begins at byte \d+ where \d+ is next",
        ),
        (
            _header({"a": _tensor(), "b": _tensor()}, bytes(8)),
            r"tensor '[ab]' begins at byte \d+ where \d+ is next",
        ),
    ],
)
def test_a_file_that_is_not_one(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightError, match=message) as caught:
        open_weights(tmp_path)
    assert str(path) in str(caught.value)


@given(position=st.integers(0, 2000), length=st.integers(0, 3), junk=st.binary(max_size=4))
def test_a_damaged_header_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, position: int, length: int, junk: bytes
) -> None:
    content = tiny_files()["model.safetensors"]
    path = tmp_path_factory.mktemp("damaged") / "model.safetensors"
    path.write_bytes(content[:position] + junk + content[position + length :])
    try:
        file = SafetensorsFile(path)
        for name, entry in file.entries.items():
            if entry.scalar is not None:
                file.read(name)
    except WeightError:
        pass


def test_a_tensor_numpy_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(_header({"a": _tensor(dtype="F64", shape=[1])}, bytes(8)))
    weights = open_weights(tmp_path)
    assert "a" not in weights.types
    with pytest.raises(WeightError, match="tensor 'a' is F64, which cannot be read"):
        weights.read("a")


def test_a_file_that_shrank_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes(tiny_tensors()))
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightError, match=r"changed from \d+ to 1000 bytes while it was in use"):
        file.read("lm_head.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda files: files.pop("model-00002-of-00003.safetensors"),
            r"lacks the shard model-00002-of-00003.*has \d+",
        ),
        (
            lambda files: files.update({"model.safetensors.index.json": b"{"}),
            r"model\.safetensors\.index\.json is not JSON",
        ),
        (
            lambda files: files.update({"model.safetensors.index.json": b'{"weight_map": {}}'}),
            "has no 'weight_map' from the names of tensors to those of files",
        ),
        (
            lambda files: files.update(
                {"model.safetensors.index.json": b'{"weight_map": {"a": "../x.safetensors"}}'}
            ),
            "points to '../x.safetensors', which is not a file of this folder",
        ),
        (
            lambda files: files.update(
                {
                    "model-00002-of-00003.safetensors": files["model-00001-of-00003.safetensors"],
                }
            ),
            r"has tensor '.*' in model-00002-of-00003.safetensors, which does not hold it",
        ),
    ],
)
def test_shards_that_do_not_fit_their_index(tmp_path: Path, change: Any, message: str) -> None:
    files = tiny_files(shards=3)
    change(files)
    with pytest.raises(WeightError, match=message):
        open_weights(write_files(tmp_path, files))


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    one, two = {"a": np.zeros(2, np.float32)}, {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}
    files = {
        "1.safetensors": safetensors_bytes(one),
        "2.safetensors": safetensors_bytes(two),
        "model.safetensors.index.json": json.dumps(
            {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
        ).encode(),
    }
    with pytest.raises(WeightError, match=r"tensor 'a' is both in .*1\.safetensors and in 2\.safetensors"):
        open_weights(write_files(tmp_path, files))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "adapter.bin",
            r"holds weights only as \.bin \(of other names than pytorch_model.bin\); .*is needed",
        ),
        ("pytorch_model.bin", "is not a checkpoint of torch 1.6 or later"),
        ("model.Q4_0.gguf", r"holds weights only as \.gguf"),
        ("weights.safetensors", r"holds safetensors, but neither model.safetensors nor the index"),
        ("README.md", r"holds no weights: model.safetensors, model.safetensors.index.json or pytorch_m"),
    ],
)
def test_a_folder_without_safetensors(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(WeightError, match=message):
        open_weights(write_files(tmp_path, {name: b"x"}))
