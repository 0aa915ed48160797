"""Any decoder that the installed ``transformers`` can build, traced with ``torch.export``.

The model is built without memory for its weights, traced over one whole sequence with attention as one
operator, and converted into our plain one; from there on it is a model like those defined in
:mod:`ingot.frontend.models`. torch and transformers are needed here and nowhere else in the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ...ir.errors import CompileError

if TYPE_CHECKING:
    from ..weights import WeightSource
    from .exported import Exported

__all__ = ["can_trace", "export_model", "require_transformers"]


def require_transformers(why: str) -> None:
    """Raise :class:`CompileError` saying ``why`` it is needed where torch or transformers is missing."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise CompileError(
            f"{why}, so it has to be traced with {' and '.join(missing)}, not installed here: "
            "pip install '.[reference]' in ingot's repository installs what was tested"
        )


def can_trace(config: Mapping[str, object]) -> bool:
    """Whether a ``config.json`` is of a causal language model that the installed transformers can build."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def export_model(folder: Path, weights: WeightSource, name: str) -> Exported:
    """The model in ``folder`` as a module of plain operators over the tensors of ``weights``.

    Raises:
        ConfigError: ``config.json`` is of no causal language model that transformers knows.
        CompileError: the model cannot be traced, or does what has no plain operator; the message names
            operator, module and line of the model's source.
        WeightError: the checkpoint's tensors are not the model's.
    """
    from .exported import export

    return export(folder, weights, name)
