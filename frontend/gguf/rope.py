"""From a GGUF file's metadata and factors to the ``rope_scaling`` of a ``config.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .hyperparameters import Hyperparameters

__all__ = ["FACTORS", "LONG_FACTORS", "SHORT_FACTORS", "read_rope_scaling"]

FACTORS = "rope_freqs.weight"
"""A tensor with what each frequency is divided by: Llama 3.1's way to longer sequences, worked out."""

LONG_FACTORS = "rope_factors_long.weight"
"""Likewise for sequences longer than the model was first made for."""

SHORT_FACTORS = "rope_factors_short.weight"
"""Likewise for others, where those are there."""


def read_rope_scaling(
    parameters: Hyperparameters, max_positions: int, factors: Callable[[str], Sequence[float] | None]
) -> Mapping[str, object] | None:
    """What stretches the rotary embedding, in the words of ``transformers``; None where nothing does.

    ``factors`` gives the numbers in a tensor, None where there is no such.

    Raises:
        ConfigError: the kind is unknown, or a parameter is missing.
    """
    original = parameters.integer("rope.scaling.original_context_length", max_positions)
    kind = parameters.text("rope.scaling.type", "none")
    long_factors, short_factors = factors(LONG_FACTORS), factors(SHORT_FACTORS)
    if long_factors is not None and short_factors is not None:
        return _longrope(parameters, max_positions, original, short_factors, long_factors)
    divisors = factors(FACTORS)
    if divisors is not None:
        if kind != "none":
            raise parameters.refuse(f"rope scaling '{kind}' beside '{FACTORS}' is not supported")
        return {
            "rope_type": "longrope",
            "short_factor": divisors,
            "long_factor": divisors,
            "attention_factor": 1.0,
            "original_max_position_embeddings": max_positions,
        }
    match kind:
        case "none":
            return None
        case "linear":
            return {"rope_type": "linear", "factor": parameters.number("rope.scaling.factor")}
        case "yarn":
            return {
                "rope_type": "yarn",
                "factor": parameters.number("rope.scaling.factor"),
                "original_max_position_embeddings": original,
                "beta_fast": parameters.number("rope.scaling.yarn_beta_fast", 32.0),
                "beta_slow": parameters.number("rope.scaling.yarn_beta_slow", 1.0),
            }
    raise parameters.refuse(f"rope scaling '{kind}' is not supported; supported are none, linear, yarn")


def _longrope(
    parameters: Hyperparameters,
    max_positions: int,
    original: int,
    short_factors: Sequence[float],
    long_factors: Sequence[float],
) -> Mapping[str, object]:
    parameters.text("rope.scaling.type", "longrope")
    scaling = {
        "rope_type": "longrope",
        "short_factor": short_factors,
        "long_factor": long_factors,
        "factor": max_positions / original,
        "original_max_position_embeddings": original,
    }
    if parameters.has("rope.scaling.attn_factor"):
        scaling["attention_factor"] = parameters.number("rope.scaling.attn_factor")
    return scaling
