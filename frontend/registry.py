"""Which family a checkpoint is of; a family's module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from ..ir.errors import ConfigError
from .configs import Fields
from .models import EncoderFamily, Family
from .models.text_part import text_part

__all__ = [
    "RegisteredFamily",
    "find_encoder",
    "find_family",
    "is_registered",
    "registered_families",
    "supported_architectures",
]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An architecture's ``model_type``, and the module below ``models`` that defines its ``FAMILY``.

    ``text`` is the ``model_type`` of the part that the family defines, where there are others.
    """

    model_type: str
    module: str
    text: str | None = None


_ARCHITECTURES: Mapping[str, _Entry] = {
    "Cohere2ForCausalLM": _Entry("cohere2", "cohere2"),
    "CohereForCausalLM": _Entry("cohere", "cohere"),
    "DeepseekV2ForCausalLM": _Entry("deepseek_v2", "deepseek_v2"),
    "DeepseekV3ForCausalLM": _Entry("deepseek_v3", "deepseek_v3"),
    "Dots1ForCausalLM": _Entry("dots1", "dots1"),
    "Ernie4_5ForCausalLM": _Entry("ernie4_5", "ernie4_5"),
    "Exaone4ForCausalLM": _Entry("exaone4", "exaone4"),
    "Gemma2ForCausalLM": _Entry("gemma2", "gemma2"),
    "Gemma3ForCausalLM": _Entry("gemma3_text", "gemma3"),
    "GemmaForCausalLM": _Entry("gemma", "gemma"),
    "Glm4ForCausalLM": _Entry("glm4", "glm4"),
    "Glm4MoeForCausalLM": _Entry("glm4_moe", "glm4_moe"),
    "Glm4MoeLiteForCausalLM": _Entry("glm4_moe_lite", "glm4_moe_lite"),
    "GlmForCausalLM": _Entry("glm", "glm"),
    "GptOssForCausalLM": _Entry("gpt_oss", "gpt_oss"),
    "GraniteForCausalLM": _Entry("granite", "granite"),
    "GraniteMoeForCausalLM": _Entry("granitemoe", "granitemoe"),
    "GraniteMoeHybridForCausalLM": _Entry("granitemoehybrid", "granitemoehybrid"),
    "GraniteMoeSharedForCausalLM": _Entry("granitemoeshared", "granitemoe"),
    "Lfm2ForCausalLM": _Entry("lfm2", "lfm2"),
    "LlamaForCausalLM": _Entry("llama", "llama"),
    "MistralForCausalLM": _Entry("mistral", "mistral"),
    "MixtralForCausalLM": _Entry("mixtral", "mixtral"),
    "Olmo2ForCausalLM": _Entry("olmo2", "olmo2"),
    "Olmo3ForCausalLM": _Entry("olmo3", "olmo3"),
    "OlmoeForCausalLM": _Entry("olmoe", "olmoe"),
    "Phi3ForCausalLM": _Entry("phi3", "phi3"),
    "PhiForCausalLM": _Entry("phi", "phi"),
    "PhimoeForCausalLM": _Entry("phimoe", "phimoe"),
    "Qwen2ForCausalLM": _Entry("qwen2", "qwen2"),
    "Qwen2MoeForCausalLM": _Entry("qwen2_moe", "qwen2_moe"),
    "Qwen3ForCausalLM": _Entry("qwen3", "qwen3"),
    "Qwen3MoeForCausalLM": _Entry("qwen3_moe", "qwen3_moe"),
    "Qwen3NextForCausalLM": _Entry("qwen3_next", "qwen3_next"),
    "Qwen3_5ForCausalLM": _Entry("qwen3_5_text", "qwen3_5"),
    "Qwen3_5MoeForCausalLM": _Entry("qwen3_5_moe_text", "qwen3_5_moe"),
    "SeedOssForCausalLM": _Entry("seed_oss", "seed_oss"),
    "SmolLM3ForCausalLM": _Entry("smollm3", "smollm3"),
    "Starcoder2ForCausalLM": _Entry("starcoder2", "starcoder2"),
    "YoutuForCausalLM": _Entry("youtu", "youtu"),
    "Gemma3ForConditionalGeneration": _Entry("gemma3", "gemma3", text="gemma3_text"),
    "Mistral3ForConditionalGeneration": _Entry("mistral3", "mistral", text="mistral"),
    "Qwen3_5ForConditionalGeneration": _Entry("qwen3_5", "qwen3_5", text="qwen3_5_text"),
    "Qwen3_5MoeForConditionalGeneration": _Entry("qwen3_5_moe", "qwen3_5_moe", text="qwen3_5_moe_text"),
    "BertModel": _Entry("bert", "bert"),
    "BertForSequenceClassification": _Entry("bert", "bert"),
    "DistilBertModel": _Entry("distilbert", "distilbert"),
    "RobertaModel": _Entry("roberta", "roberta"),
    "RobertaForSequenceClassification": _Entry("roberta", "roberta"),
    "XLMRobertaModel": _Entry("xlm-roberta", "roberta"),
    "XLMRobertaForSequenceClassification": _Entry("xlm-roberta", "roberta"),
}


@dataclass(frozen=True, slots=True)
class RegisteredFamily:
    """A ``model_type`` and the names that ``architectures`` in its ``config.json`` may have."""

    model_type: str
    architectures: tuple[str, ...]


def registered_families() -> tuple[RegisteredFamily, ...]:
    """All there are, by their ``model_type``."""
    model_types = sorted({entry.model_type for entry in _ARCHITECTURES.values()})
    return tuple(
        RegisteredFamily(
            model_type,
            tuple(name for name, entry in _ARCHITECTURES.items() if entry.model_type == model_type),
        )
        for model_type in model_types
    )


def supported_architectures() -> tuple[str, ...]:
    """The names that ``architectures`` in a ``config.json`` may have."""
    return tuple(_ARCHITECTURES)


def is_registered(config: Mapping[str, object]) -> bool:
    """Whether :func:`find_family` finds one, where the ``config.json`` says what model it is at all."""
    fields = Fields(config)
    architectures = fields.texts("architectures")
    if architectures:
        return architectures[0] in _ARCHITECTURES
    model_type = fields.text("model_type", "")
    return not model_type or any(entry.model_type == model_type for entry in _ARCHITECTURES.values())


def find_family(config: Mapping[str, object]) -> Family | EncoderFamily:
    """The family of a ``config.json``, by the first of its ``architectures``, or else by its ``model_type``.

    Raises:
        ConfigError: there is neither, or it is not supported; the message names what is.
    """
    fields = Fields(config)
    architectures = fields.texts("architectures")
    if architectures:
        wanted = f"architecture '{architectures[0]}'"
        entry = _ARCHITECTURES.get(architectures[0])
    elif fields.has("model_type"):
        model_type = fields.text("model_type", "")
        wanted = f"model type '{model_type}'"
        entry = next((entry for entry in _ARCHITECTURES.values() if entry.model_type == model_type), None)
    else:
        raise fields.refuse("neither 'architectures' nor 'model_type' says what model this is")
    if entry is None:
        raise ConfigError(
            f"{fields.where}: {wanted} is not supported; supported are {', '.join(_ARCHITECTURES)}"
        )
    return _family(entry)


def find_encoder(config: Mapping[str, object]) -> Family | EncoderFamily:
    """The family of a ``config.json`` whose model gives states, whatever head its ``architectures`` name.

    Raises:
        ConfigError: there is no ``model_type``, or no family of it gives states; the message names others.
    """
    fields = Fields(config)
    model_type = fields.text("model_type", "")
    for entry in _ARCHITECTURES.values():
        if entry.model_type == model_type:
            family = _family(entry)
            if family.encode is not None:
                return family
    known = dict.fromkeys(entry.model_type for entry in _ARCHITECTURES.values())
    supported = ", ".join(name for name in known if name != model_type)
    raise fields.refuse(f"model type '{model_type}' gives no embeddings here; others are {supported}")


def _family(entry: _Entry) -> Family | EncoderFamily:
    family: Family | EncoderFamily = import_module(f".models.{entry.module}", __package__).FAMILY
    if entry.text is not None and isinstance(family, Family):
        return text_part(family, entry.text)
    return family
