"""GGUF containers byte by byte: what is read, and what is refused with which sentence."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingot.frontend import gguf_name, gguf_parts, load_model
from ingot.frontend.gguf.container import GgufFile
from ingot.frontend.gguf.splits import open_parts
from ingot.frontend.gguf.tensor_types import TENSOR_TYPES
from ingot.ir.errors import ConfigError, IngotError, WeightError

from ..gguf_files import write_gguf
from ..tiny_models import make_tiny
from .test_exactness import TOKEN_IDS, log_probs

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(key: str | bytes, kind: int, data: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + data


def tensor(name: str | bytes, shape: Sequence[int] = (4, 3), kind: int = 0, offset: int = 0) -> bytes:
    """An entry; ``shape`` is with rows last, as everywhere but in files."""
    dims = struct.pack(f"<{len(shape)}Q", *reversed(shape))
    return text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, offset)


def container(
    values: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = bytes(64),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    num_tensors, num_values = counts or (len(tensors), len(values))
    head = magic + struct.pack("<IQQ", version, num_tensors, num_values) + b"".join((*values, *tensors))
    return head + bytes(-len(head) % alignment) + data


def opened(folder: Path, content: bytes) -> GgufFile:
    path = folder / "a.gguf"
    path.write_bytes(content)
    return GgufFile(path)


@pytest.mark.parametrize("version", [2, 3])
def test_values_and_tensors(tmp_path: Path, version: int) -> None:
    values = [
        value("a", U32, struct.pack("<I", 7)),
        value("b", F32, struct.pack("<f", 0.5)),
        value("c", BOOL, b"\x01"),
        value("d", STRING, text("é")),
        value("e", ARRAY, struct.pack("<IQ", STRING, 2) + text("x") + text("")),
        value("f", ARRAY, struct.pack("<IQ3I", U32, 3, 1, 2, 3)),
        value("general.alignment", U32, struct.pack("<I", 64)),
    ]
    data = np.arange(12, dtype=np.float32).tobytes() + bytes(16) + np.arange(2, dtype=np.float32).tobytes()
    tensors = [tensor("first"), tensor("second", (2,), offset=64)]
    file = opened(tmp_path, container(values, tensors, data, version=version, alignment=64))
    assert [file.metadata[key] for key in "abcde"] == [7, 0.5, True, "é", ("x", "")]
    np.testing.assert_array_equal(file.metadata["f"], [1, 2, 3])
    assert str(file.tensors["first"]) == "F32[4, 3]"
    np.testing.assert_array_equal(
        file.read("first").view(np.float32).reshape(4, 3), np.arange(12).reshape(4, 3)
    )
    np.testing.assert_array_equal(file.read("second").view(np.float32), [0, 1])


def test_types_are_those_of_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    for code, found in TENSOR_TYPES.items():
        if code in gguf.GGMLQuantizationType.__members__.values():
            kind = gguf.GGMLQuantizationType(code)
            assert kind.name == found.name
            if kind.name != "Q8_1":  # never in a file; the package has it smaller than it is in memory
                assert gguf.GGML_QUANT_SIZES[kind] == (found.block_size, found.block_bytes)


HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a GGUF file: cannot mmap an empty file"),
        (b"GGU", "does not begin with GGUF"),
        (container(magic=b"GGML"), "does not begin with GGUF"),
        (container(version=1), "is of version 1, not of 2 or 3"),
        (container(version=3 << 24), "is big-endian, and cannot be read"),
        (b"GGUF\x03\0\0\0", "truncated: the count of tensors at byte 8 needs 8 bytes"),
        (container(counts=(HUGE, 0)), r"has 18446744073709551615 tensors where the file has room for \d"),
        (container(counts=(0, HUGE)), "metadata '' is there twice"),
        (container(counts=(1, 0)), "truncated|0 dimensions|name of tensor"),
        (container([value("a", 99, b"")]), "metadata 'a' is of the unknown type 99"),
        (
            container([value("a", STRING, struct.pack("<Q", HUGE))]),
            "metadata 'a' is a string of 18446744073709551615",
        ),
        (container([value("a", STRING, struct.pack("<Q", 1 << 20))]), "truncated: metadata 'a' at byte"),
        (container([value("a" * 2000, U32, bytes(4))]), "key 0 of the metadata is a string of 2000 bytes"),
        (container([value("a", STRING, text(b"\xff"))]), "metadata 'a' is not UTF-8"),
        (container([value("a", U32, bytes(4))] * 2), "metadata 'a' is there twice"),
        (container([value("a", ARRAY, struct.pack("<IQ", U64, 1 << 60))]), "truncated: metadata 'a' needs"),
        (
            container([value("a", ARRAY, struct.pack("<IQ", STRING, 1 << 22))]),
            "truncated: metadata 'a' needs",
        ),
        (
            container([value("a", ARRAY, struct.pack("<IQ", STRING, 1 << 40))]),
            "is an array of 1099511627776 strings",
        ),
        (container([value("a", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "an array of arrays"),
        (
            container([value("general.alignment", U32, bytes(4))]),
            "'general.alignment' is 0, not a multiple of 8",
        ),
        (container([value("general.alignment", STRING, text("x"))]), "'general.alignment' is 'x'"),
        (container([], [tensor("a")] * 2), "tensor 'a' is there twice"),
        (container([], [tensor("a", ())]), "tensor 'a' has 0 dimensions where 1 to 4 can be"),
        (container([], [tensor("a", (1,) * 5)]), "tensor 'a' has 5 dimensions"),
        (container([], [tensor("a", kind=4)]), "tensor 'a' is of the unknown type 4"),
        (container([], [tensor("a", (3, 33), kind=8)]), "is Q8_0 with rows of 33, no multiple of 32"),
        (container([], [tensor("a", offset=8)]), "tensor 'a' lies at 8, not at a multiple of 32"),
        (container([], [tensor("a", (HUGE, HUGE))]), "truncated: tensor 'a' ends at byte"),
        (container([], [tensor("a", offset=1 << 62)]), "truncated: tensor 'a' ends at byte"),
        (
            container([], [tensor("a"), tensor("b", offset=32)], bytes(128)),
            "tensor 'b' begins at byte .* within",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(WeightError, match=message) as caught:
        opened(tmp_path, content)
    assert str(tmp_path / "a.gguf") in str(caught.value)


def test_a_model_in_several_files(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    folder = make_tiny("llama", tmp_path, num_hidden_layers=2)
    whole = load_model(write_gguf(folder, tmp_path / "whole.gguf"))
    first = write_gguf(folder, tmp_path / "split.gguf", tensors_a_file=8)
    first = tmp_path / "split-00001-of-00003.gguf"
    names = [path.name for path in sorted(tmp_path.glob("split-*.gguf"))]
    assert tuple(names) == gguf_parts(first.name)
    model = load_model(first)
    assert (model.name, gguf_name(first.name)) == ("split", "split")
    assert len(model.provenance()) == 3
    np.testing.assert_array_equal(log_probs(model, TOKEN_IDS), log_probs(whole, TOKEN_IDS))
    np.testing.assert_array_equal(
        log_probs(load_model(tmp_path / names[2]), TOKEN_IDS), log_probs(whole, TOKEN_IDS)
    )

    third = tmp_path / names[2]
    content = third.read_bytes()
    third.write_bytes((tmp_path / names[1]).read_bytes())
    with pytest.raises(
        WeightError, match=r"says that it is file 2 of 3, its name that it is 3 of 3: keep the names"
    ):
        load_model(first)
    third.unlink()
    with pytest.raises(
        WeightError, match=r"lacks split-00003-of-00003\.gguf, one of the 3 files of the model"
    ):
        load_model(first)
    os.symlink(third, third)
    with pytest.raises(WeightError, match=r"lacks split-00003-of-00003\.gguf"):
        load_model(first)
    third.unlink()
    third.write_bytes(content)
    renamed = first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(WeightError, match="says that it is file 1 of 3, its name that it is 1 of 1"):
        load_model(renamed)


def test_names_of_parts() -> None:
    assert gguf_parts("a.gguf") == ("a.gguf",)
    assert gguf_parts("a-00002-of-00002.gguf") == ("a-00001-of-00002.gguf", "a-00002-of-00002.gguf")
    assert gguf_name("a.Q4_K_M.gguf") == "a.Q4_K_M"


@pytest.mark.parametrize("name", ["a-00003-of-00002.gguf", "a-00001-of-00000.gguf", "a-00001-of-99999.gguf"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(container())
    with pytest.raises(WeightError, match=r"cannot be the name of one of|lacks a-00002-of-99999\.gguf"):
        open_parts(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"without": ("context_length",)}, "metadata 'llama.context_length' is missing"),
        ({"attention__head_count": "x"}, "'attention.head_count' must be a whole number"),
        ({"attention__causal": False}, "attention that is not causal is not supported"),
        ({"attention__max_alibi_bias": 8.0}, "metadata 'llama.attention.max_alibi_bias' is not supported"),
        ({"attention__value_length": 12}, "values of 12 elements beside keys of 10 are not supported"),
        ({"rope__dimension_count": 6}, "heads of 10 of which 6 are turned are not supported"),
        (
            {"rope__scaling__type": "mrope"},
            "rope scaling 'mrope' is not supported; supported are none, linear",
        ),
        ({"rope__scaling__type": "yarn"}, "metadata 'llama.rope.scaling.factor' is missing"),
        ({"block_count": 1 << 31}, "2147483648 layers cannot be of"),
        ({"block_count": 3}, "lacks the tensors 'model.layers.2.input_layernorm.weight'"),
        ({"block_count": 1}, "has the tensors .* that the file's metadata gives no place for"),
        ({"feed_forward_length": [80, 81]}, "'feed_forward_length' differs from layer to layer"),
        (
            {
                "attention__key_length": 1 << 30,
                "attention__value_length": 1 << 30,
                "rope__dimension_count": 1 << 30,
            },
            "'head_dim' must be .* at most 16384",
        ),
        ({"expert_count": 4}, "metadata 'llama.expert_used_count' is missing"),
        ({"embedding_length": 49}, r"the file's metadata asks for the shape \[307, 49\]"),
    ],
)
def test_metadata_that_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    folder = make_tiny("llama", tmp_path, num_hidden_layers=2)
    with pytest.raises(IngotError, match=message):
        load_model(write_gguf(folder, tmp_path / "a.gguf", **options))


def test_architectures_without_a_family_are_refused_by_name(tmp_path: Path) -> None:
    content = container([value("general.architecture", STRING, text("rwkv7"))])
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"\(rwkv7\): GGUF files of this .* not supported; supported are llama"
    ):
        load_model(tmp_path / "a.gguf")


def test_types_that_are_not_read_are_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    folder = make_tiny("llama", tmp_path, num_hidden_layers=1, hidden_size=256, num_attention_heads=4)
    path = write_gguf(folder, tmp_path / "a.gguf", choose=lambda n, s: "TQ1_0" if "ffn_up" in n else "F32")
    with pytest.raises(
        WeightError, match=r"is TQ1_0\[80, 256\] \(there 'blk.0.ffn_up.weight'\) where float32, float"
    ):
        load_model(path)
