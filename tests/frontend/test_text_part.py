"""Models that take images besides: which part of them is read, and under which names of its tensors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ingot.frontend import DecoderConfig, load_model
from ingot.frontend.registry import find_family
from ingot.ir.errors import ConfigError, WeightError

from ..tiny_models import make_tiny

SMALL: dict[str, Any] = {
    "architectures": ["Mistral3ForConditionalGeneration"],
    "text_config": {
        "model_type": "mistral",
        "vocab_size": 31,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "eos_token_id": 3,
    },
    "vision_config": {"model_type": "pixtral"},
}


def read(**fields: Any) -> DecoderConfig:
    config = {**SMALL, **fields}
    return find_family(config).from_hf(config)


def test_text_config_is_read_and_what_is_said_of_all() -> None:
    config = read()
    assert (config.model_type, config.vocab_size, config.eos_token_ids) == ("mistral", 31, (3,))
    assert not config.tie_word_embeddings
    assert read(tie_word_embeddings=True, eos_token_id=[4, 5]).eos_token_ids == (4, 5)
    assert read(tie_word_embeddings=True).tie_word_embeddings


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"text_config": None}, "field 'text_config' is missing"),
        ({"text_config": {"model_type": "llama"}}, "text_config: model_type 'llama' is not supported there"),
    ],
)
def test_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(**fields)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return make_tiny("mistral3", tmp_path_factory.mktemp("tiny"))


def renamed(checkpoint: Path, folder: Path, *prefixes: tuple[str, str]) -> Path:
    """A copy of a checkpoint whose tensors' names begin with others."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    for old, new in prefixes:
        tensors = {
            new + name.removeprefix(old) if name.startswith(old) else name: tensor
            for name, tensor in tensors.items()
        }
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_both_spellings_of_names_are_the_same_model(checkpoint: Path, tmp_path: Path) -> None:
    new = renamed(
        checkpoint,
        tmp_path / "new",
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    )
    found, expected = load_model(new), load_model(checkpoint)
    assert found.config == expected.config
    operators = [[operation.operator for operation in m.module.forward.operations] for m in (found, expected)]
    assert operators[0] == operators[1]
    names = {parameter.name for parameter in found.module.forward.parameters}
    assert {"model.language_model.embed_tokens.weight", "lm_head.weight"} < names


def test_what_is_of_neither_part_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    folder = renamed(checkpoint, tmp_path / "odd", ("vision_tower.", "sound_tower."))
    with pytest.raises(WeightError, match="sound_tower"):
        load_model(folder)


def test_a_tied_head_under_another_name(checkpoint: Path, tmp_path: Path) -> None:
    """A head that differs from the embedding is not tied, whatever the names."""
    folder = renamed(checkpoint, tmp_path / "tied")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    assert not load_model(folder).config.tie_word_embeddings
