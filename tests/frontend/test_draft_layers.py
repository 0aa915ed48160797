"""Layers that only guess further tokens are left in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ingot.frontend import load_model
from ingot.ir import print_module
from ingot.ir.errors import WeightError
from safetensors.numpy import save_file

from ..tiny_models import make_tiny

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.parametrize("architecture", ["deepseek_v3", "glm4_moe"])
def test_layers_behind_the_last(tmp_path: Path, architecture: str) -> None:
    folder = make_tiny(architecture, tmp_path, num_nextn_predict_layers=1)
    alone = load_model(folder).module
    save_with(folder, "model.layers.4.eh_proj.weight")
    assert print_module(load_model(folder).module) == print_module(alone)
    save_with(folder, "model.layers.5.eh_proj.weight")
    with pytest.raises(WeightError, match=r"model\.layers\.5\.eh_proj\.weight"):
        load_model(folder)


def save_with(folder: Path, name: str) -> None:
    """Add a tensor to a checkpoint."""
    weights = load_model(folder).weights
    tensors = {stored: np.asarray(weights.read(stored)) for stored in weights.names}
    save_file({**tensors, name: np.ones((3, 2), np.float32)}, folder / "model.safetensors")
