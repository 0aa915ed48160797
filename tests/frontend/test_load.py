from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ingot.frontend
import numpy as np
import numpy.typing as npt
import pytest
from ingot.frontend import load_model
from ingot.ir.errors import ConfigError, ModelError, WeightError
from ingot.ir.interpreter import evaluate
from ingot.ir.parser import parse_module
from ingot.ir.printer import print_module
from ingot.ir.types import ScalarType
from ingot.ir.verifier import verify

from .tiny_folder import BFLOAT16, CONFIG, safetensors_bytes, tiny_files, tiny_tensors, write_files

Tensors = dict[str, npt.NDArray[np.generic]]


def folder_of(path: Path, tensors: Tensors, **config: Any) -> Path:
    text = json.dumps({**CONFIG, **config}).encode()
    return write_files(path, {"config.json": text, "model.safetensors": safetensors_bytes(tensors)})


def test_public_names() -> None:
    assert ingot.frontend.__all__ == [
        "FRONTENDS",
        "DecoderConfig",
        "EncoderConfig",
        "Model",
        "SourceFile",
        "TracedConfig",
        "VectorConfig",
        "WeightSource",
        "gguf_name",
        "gguf_parts",
        "hash_files",
        "load_model",
        "supported_architectures",
    ]


def test_model(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "Tiny-1", tiny_files())
    model = load_model(str(folder))
    assert model.name == model.module.name == "Tiny-1"
    assert model.folder == folder
    assert model.config.eos_token_ids == (7, 9)
    forward, prepare = model.module.forward, model.module.prepare
    assert [str(value) for value in map(repr, forward.inputs)] == [
        "%token_ids: int32[tokens]",
        "%positions: int32[tokens]",
    ]
    assert [repr(value) for value in forward.outputs] == ["%logits: float32[tokens, 31]"]
    assert {value.name for value in forward.parameters} == set(tiny_tensors())
    named = [(value.name, value.type) for value in forward.parameters]
    assert [(value.name, value.type) for value in prepare.inputs] == named
    assert [(value.name, value.type) for value in prepare.outputs] == named
    assert not prepare.operations


@pytest.mark.parametrize("dtype", [np.dtype("float32"), np.dtype("float16"), BFLOAT16], ids=str)
def test_module_is_of_its_stage_and_reads_back(tmp_path: Path, dtype: np.dtype[np.generic]) -> None:
    model = load_model(write_files(tmp_path, tiny_files(dtype=dtype)))
    assert model.module.stage == "plain"
    verify(model.module)
    text = print_module(model.module)
    assert print_module(parse_module(text)) == text


def test_weights_keep_their_types_and_vectors_are_cast(tmp_path: Path) -> None:
    model = load_model(write_files(tmp_path, tiny_files(dtype=BFLOAT16)))
    assert {value.type.element for value in model.module.forward.parameters} == {ScalarType.BFLOAT16}
    casts = [operation for operation in model.module.forward.operations if operation.operator == "cast"]
    assert {operation.operands[0].name for operation in casts} == {"positions"} | {
        name for name, array in tiny_tensors().items() if array.ndim == 1
    }


def test_generation_config_says_which_tokens_end_an_answer(tmp_path: Path) -> None:
    files = tiny_files() | {"generation_config.json": b'{"eos_token_id": [3, 5]}'}
    assert load_model(write_files(tmp_path, files)).config.eos_token_ids == (3, 5)


def logits(folder: Path) -> npt.NDArray[np.float32]:
    model = load_model(folder)
    inputs = {"token_ids": np.arange(5, dtype=np.int32), "positions": np.arange(5, dtype=np.int32)}
    (found,) = evaluate(model.module.forward, inputs, parameter=model.weights.read)
    assert isinstance(found, np.ndarray)
    return found


def test_tied_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors: Tensors = tiny_tensors()
    del tensors["lm_head.weight"]
    absent = load_model(folder_of(tmp_path / "absent", tensors, tie_word_embeddings=True))
    assert absent.config.tie_word_embeddings
    assert "lm_head.weight" not in {value.name for value in absent.module.forward.parameters}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    repeated = load_model(folder_of(tmp_path / "repeated", tensors, tie_word_embeddings=True))
    assert repeated.config.tie_word_embeddings
    np.testing.assert_array_equal(logits(absent.folder), logits(repeated.folder))
    assert not caplog.records


def test_head_of_its_own_though_tied(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tied = folder_of(tmp_path / "tied", tiny_tensors(), tie_word_embeddings=True)
    untied = folder_of(tmp_path / "untied", tiny_tensors())
    assert not load_model(tied).config.tie_word_embeddings
    assert "lm_head.weight differs from model.embed_tokens.weight" in caplog.text
    np.testing.assert_array_equal(logits(tied), logits(untied))


def test_buffers_of_old_checkpoints_are_left_over_in_silence(tmp_path: Path) -> None:
    tensors: Tensors = tiny_tensors()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(5, np.float32)
    assert load_model(folder_of(tmp_path, tensors)).name


def drop(*names: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in names:
            del tensors[name]

    return change


def put(name: str, array: npt.NDArray[np.generic]) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: array})


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(NORM), r"^the checkpoint in .* lacks the tensor 'model\.norm\.weight'$"),
        (
            drop(*(f"model.layers.{i}.mlp.{name}_proj.weight" for i in (0, 1) for name in ("gate", "up"))),
            r"lacks the tensors 'model.layers.0.mlp.gate_proj.weight', .* and 1 more$",
        ),
        (
            put("extra.weight", np.ones(3, np.float32)),
            r"^the checkpoint in .* has the tensor 'extra\.weight' that",
        ),
        (
            put("model.layers.0.self_attn.q_proj.bias", np.ones(60, np.float32)),
            r"has the tensor 'model.layers.0.self_attn.q_proj.bias' that config.json gives no place for$",
        ),
        (
            put(NORM, np.ones(49, np.float32)),
            r"^tensor 'model.norm.weight' .* is float32\[49\] where config.json asks for the shape \[48\]$",
        ),
        (
            put("lm_head.weight", np.ones((48, 31), np.float32)),
            r"is float32\[48, 31\] where config.json asks for the shape \[31, 48\]",
        ),
        (put(NORM, np.ones(48, np.int64)), r"is int64\[48\] where float32, float16 or bfloat16 is needed"),
        (put(NORM, np.ones(48, np.float64)), r"is F64\[48\] where float32, float16 or bfloat16 is needed"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, change: Callable[[Tensors], None], message: str) -> None:
    tensors: Tensors = tiny_tensors()
    change(tensors)
    with pytest.raises(WeightError, match=message):
        load_model(folder_of(tmp_path, tensors))


def test_missing_and_extra_are_told_together(tmp_path: Path) -> None:
    tensors: Tensors = tiny_tensors()
    tensors["transformer.norm"] = tensors.pop(NORM)
    with pytest.raises(
        WeightError, match=r"lacks the tensor 'model\.norm\.weight', while it has .*'transformer\.norm'"
    ):
        load_model(folder_of(tmp_path, tensors))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"holds no config\.json: a Hugging Face model folder is needed"),
        ({"config.json": b"{"}, r"config\.json is not JSON"),
        ({"config.json": b"\xff\xfe\xfd"}, r"config\.json is not JSON"),
        ({"config.json": b"[]"}, r"config\.json must hold a JSON object"),
        ({"config.json": b"{}"}, r"neither 'architectures' nor 'model_type'"),
        (
            {"config.json": b'{"architectures": ["MPNetModel"]}'},
            r"architecture 'MPNetModel' is not supported; supported",
        ),
    ],
)
def test_config_that_is_none(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_model(write_files(tmp_path, files))
    assert str(tmp_path) in str(caught.value)


def test_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightError, match="holds no weights"):
        load_model(write_files(tmp_path, {"config.json": tiny_files()["config.json"]}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no-such-folder", "'no-such-folder' is neither a folder that exists nor a hub id like org/name"),
        ("./no/such", "is neither a folder that exists nor a hub id"),
        ("/no/such/folder", "is neither a folder that exists nor a hub id"),
        ("a/b/c", "is neither a folder that exists nor a hub id"),
        ("", "'' is neither a folder that exists nor a hub id"),
        (Path("org/name"), "'org/name' is neither a folder that exists nor a hub id"),
        ("models/tiny.gguf", "there is no file models/tiny.gguf; one of a repository is org/name:FILE.gguf"),
        ("tiny.gguf", "there is no file tiny.gguf"),
        ("tiny.ingot", "there is no artifact tiny.ingot"),
        ("org/name:../tiny.gguf", "one GGUF file is PATH.gguf, or org/name:FILE.gguf"),
        ("org/name:tiny.bin", "one GGUF file is PATH.gguf, or org/name:FILE.gguf"),
    ],
)
def test_source_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | Path, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_model(source)


def test_source_that_is_a_file(tmp_path: Path) -> None:
    folder = write_files(tmp_path, tiny_files())
    with pytest.raises(ModelError, match=r"is a file: give the folder with config\.json"):
        load_model(folder / "model.safetensors")


def test_provenance(tmp_path: Path) -> None:
    files = tiny_files(shards=2) | {"generation_config.json": b"{}", "README.md": b"not of the model"}
    model = load_model(write_files(tmp_path, files))
    del files["README.md"]
    expected = {(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}
    assert {(file.name, file.num_bytes, file.sha256) for file in model.provenance()} == expected
    assert model.provenance_later().result(timeout=30) == model.provenance()


def test_a_folder_is_loaded_without_torch_and_without_an_http_client(tmp_path: Path) -> None:
    folder = write_files(tmp_path, tiny_files())
    script = (
        "import sys; from ingot.frontend import load_model; load_model(sys.argv[1]);"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'tvm') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
