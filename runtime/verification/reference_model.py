"""A model as ``transformers`` runs it in float32, to compare with. PyTorch is imported when one is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...ir.errors import IngotError, ModelError
from ...targets.manifest import ModelRecord

if TYPE_CHECKING:
    import torch

__all__ = ["ReferenceModel", "expect_reference"]


def expect_reference(folder: Path, model: ModelRecord) -> None:
    """Check, without loading anything, that ``folder`` can be the reference of ``model``.

    Raises:
        IngotError: PyTorch or transformers are not installed.
        ModelError: the folder holds no model, or another one.
    """
    missing = [name for name in ("torch", "transformers") if not _is_installed(name)]
    if missing:
        raise IngotError(
            f"the reference runs on {' and '.join(missing)}, not installed here: "
            "pip install '.[reference]' in ingot's repository installs what was tested"
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{folder} is no Hugging Face folder: its config.json cannot be read ({error.strerror})"
        ) from None
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON: {error}") from None
    for field, expected in (
        ("model_type", model.architecture),
        ("num_hidden_layers", model.num_layers),
        ("vocab_size", model.vocab_size),
    ):
        found = config.get(field) if isinstance(config, dict) else None
        if found != expected:
            raise ModelError(
                f"{folder} is not the model the artifact was made of: its {field} is {found}, not {expected}"
            )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module that stands in for it has no spec
        return False


class ReferenceModel:
    """A checkpoint on the CPU, in float32 whatever it is stored in."""

    def __init__(self, folder: Path) -> None:
        """Load it; raises :class:`ModelError` where ``transformers`` does not."""
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            reason = f"transformers cannot load {folder}: {str(error).strip().splitlines()[0]}"
            if isinstance(error, ImportError):  # a library that quantized weights are read with
                reason += "; the folder of the unquantized model serves as well"
            raise ModelError(reason) from error
        self._model: torch.nn.Module = model.eval()

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return float32 ``[len(token_ids), vocab_size]``: the log-probabilities after each token."""
        import torch

        with torch.inference_mode():
            logits = self._model(torch.tensor([list(token_ids)]), use_cache=False).logits[0]
            return np.asarray(torch.log_softmax(logits, dim=-1).numpy(), np.float32)
