"""Models that take images and text: the text's part of them, which is a decoder as others are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from ..configs import DecoderConfig, Fields
from .family import Family

__all__ = ["text_part"]

_RENAMINGS = (
    MappingProxyType({"model.": "model.language_model."}),
    MappingProxyType({"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}),
)
"""As ``transformers`` 5 writes them, and as it did before."""

_OF_IMAGES = tuple(
    f"{prefix}{part}."
    for prefix in ("", "model.")
    for part in ("vision_tower", "multi_modal_projector", "mm_projector", "visual")
)
_OF_ALL = ("tie_word_embeddings", "eos_token_id")
"""Fields that are beside ``text_config`` and say something of the text's part."""


def text_part(family: Family, text_model_type: str) -> Family:
    """The family of models whose text's part is of ``family``, and which takes text alone.

    What makes images part of the text is left out; whoever sends images is told so where they are sent.
    """
    return replace(
        family,
        from_hf=partial(_from_hf, family, text_model_type),
        encode=None,
        left_out=(*family.left_out, *_OF_IMAGES),
        renamings=_RENAMINGS,
    )


def _from_hf(family: Family, text_model_type: str, config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    text = fields.object("text_config")
    if text is None:
        raise fields.refuse("field 'text_config' is missing")
    if (found := text.text("model_type", text_model_type)) != text_model_type:
        raise text.refuse(f"model_type '{found}' is not supported there; supported is {text_model_type}")
    of_all = {name: config[name] for name in _OF_ALL if config.get(name) is not None}
    return family.from_hf({**text.values, **of_all})
