"""From the fields of a ``config.json`` to a rotary embedding, in the spelling of ``transformers`` 4 and 5."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .fields import Fields
from .rope import DynamicRope, LinearRope, Llama3Rope, PlainRope, Rope, YarnRope

__all__ = ["read_rope"]

_LAYER_TYPES = ("full_attention", "sliding_attention")


def read_rope(fields: Fields, max_position_embeddings: int) -> Rope:
    """The rotary embedding that ``fields`` ask for.

    ``transformers`` 5 writes ``rope_parameters`` with ``rope_theta`` and ``rope_type`` in it; before, there
    were ``rope_theta`` and ``rope_scaling`` with ``rope_type``, or ``type``. As there, ``rope_scaling`` wins.

    Raises:
        ConfigError: the kind is unknown, a parameter is missing or makes no sense, layers differ, or only a
            part of each head is rotated.
    """
    parameters = _flat(
        fields.object("rope_scaling") or fields.object("rope_parameters") or Fields({}, fields.where)
    )
    _check_partial(fields)
    _check_partial(parameters)
    theta = parameters.number("rope_theta", fields.number("rope_theta", 10_000.0))
    kind = parameters.text("rope_type", parameters.text("type", "default"))
    if kind not in _READERS:
        raise parameters.refuse(f"rope type '{kind}' is not supported; supported are {', '.join(_READERS)}")
    original = fields.integer(
        "original_max_position_embeddings",
        parameters.integer("original_max_position_embeddings", max_position_embeddings),
    )
    return _READERS[kind](parameters, theta, max_position_embeddings, original)


def _flat(parameters: Fields) -> Fields:
    """``parameters``, or where they are nested by layer type those that all layers share."""
    nested = [found for name in _LAYER_TYPES if (found := parameters.object(name)) is not None]
    if not nested:
        return parameters
    if any(other.values != nested[0].values for other in nested):
        raise parameters.refuse("layers of different types with different rope parameters are not supported")
    return nested[0]


def _check_partial(fields: Fields) -> None:
    if (factor := fields.number("partial_rotary_factor", 1.0)) != 1.0:
        raise fields.refuse(f"partial_rotary_factor {factor:g} is not supported: heads are rotated whole")


def _plain(parameters: Fields, theta: float, maximum: int, original: int) -> Rope:
    return PlainRope(theta)


def _linear(parameters: Fields, theta: float, maximum: int, original: int) -> Rope:
    return LinearRope(theta, parameters.number("factor"))


def _dynamic(parameters: Fields, theta: float, maximum: int, original: int) -> Rope:
    return DynamicRope(theta, parameters.number("factor"), maximum)


def _llama3(parameters: Fields, theta: float, maximum: int, original: int) -> Rope:
    low, high = parameters.number("low_freq_factor"), parameters.number("high_freq_factor")
    if high <= low:
        raise parameters.refuse(f"high_freq_factor must be above low_freq_factor {low:g}, not {high:g}")
    return Llama3Rope(theta, parameters.number("factor"), low, high, original)


def _yarn(parameters: Fields, theta: float, maximum: int, original: int) -> Rope:
    if theta <= 1:
        raise parameters.refuse(f"rope_theta must be above 1 for yarn, not {theta:g}")
    written_as_null = "factor" in parameters.values and not parameters.has("factor")
    factor = maximum / original if written_as_null else parameters.number("factor")
    return YarnRope(
        theta,
        factor,
        original,
        beta_fast=parameters.number("beta_fast", 32.0),
        beta_slow=parameters.number("beta_slow", 1.0),
        truncate=parameters.flag("truncate", True),
        scale=_yarn_scale(parameters, factor),
    )


def _yarn_scale(parameters: Fields, factor: float) -> float:
    if (given := parameters.optional_number("attention_factor")) is not None:
        return given

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    # A weight of 0 counts as not given.
    mscale, of_all = (parameters.values.get(name) or 0 for name in ("mscale", "mscale_all_dim"))
    if mscale and of_all:
        return scale(parameters.number("mscale")) / scale(parameters.number("mscale_all_dim"))
    return scale(1.0)


_READERS: Mapping[str, Callable[[Fields, float, int, int], Rope]] = {
    "default": _plain,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
}
