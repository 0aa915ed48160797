"""What has to be known of an architecture to read its GGUF files as ``transformers`` would its folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from .facts import Facts

__all__ = ["Architecture", "Key", "Kind", "count", "flag", "limit", "number", "window"]


class Kind(Enum):
    """What a value of the metadata is."""

    COUNT = "a whole number"
    NUMBER = "a number"
    FLAG = "true or false"
    WINDOW = "a whole number, 0 for none"
    LIMIT = "a number, 0 for none"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the metadata; without a ``default`` it must be there."""

    name: str
    kind: Kind
    default: int | float | bool | None = None


def count(name: str, default: int | None = None) -> Key:
    """A whole number."""
    return Key(name, Kind.COUNT, default)


def number(name: str, default: float | None = None) -> Key:
    """A number."""
    return Key(name, Kind.NUMBER, default)


def flag(name: str, default: bool | None = None) -> Key:
    """True or false."""
    return Key(name, Kind.FLAG, default)


def window(name: str, default: int | None = None) -> Key:
    """A whole number, 0 for none."""
    return Key(name, Kind.WINDOW, default)


def limit(name: str, default: float) -> Key:
    """A number, 0 for none."""
    return Key(name, Kind.LIMIT, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """An architecture as GGUF files have it.

    Attributes:
        hf_name: what ``architectures`` in a ``config.json`` calls it.
        layer: the names of tensors within a layer, without ``weight`` and ``bias``: the checkpoint's by the
            file's. A name in which ``{expert}`` stands is of an expert's tensor.
        outside: likewise of those in no layer.
        norm_epsilon: the field of ``config.json`` for it, and its key.
        fields: further fields of ``config.json``.
        present: flags of ``config.json`` that say whether a tensor is there, by its name.
        constants: fields of ``config.json`` that all files share and none has.
        permuted: whether rows of queries and keys lie so that neighbours turn together.
        whole_norms: whether norms hold their weight, where the checkpoint's hold it less one.
        turned_in_part: whether the rotary embedding may turn less than a head.
        layers_without_attention: whether layers of no key and value heads are something else.
        latent: whether keys and values are made of latents, so that heads have other sizes.
        rope: further parameters of a rotary embedding that is stretched.
        default_rope_theta: its base where a file does not say.
        finish: changes the fields of a ``config.json`` by what nothing above can say.
    """

    hf_name: str
    layer: Mapping[str, str]
    outside: Mapping[str, str]
    norm_epsilon: tuple[str, str] = ("rms_norm_eps", "attention.layer_norm_rms_epsilon")
    fields: Mapping[str, Key] = field(default_factory=dict)
    present: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    permuted: bool = False
    whole_norms: bool = False
    turned_in_part: bool = False
    layers_without_attention: bool = False
    latent: bool = False
    rope: Mapping[str, object] = field(default_factory=dict)
    default_rope_theta: float = 10_000.0
    finish: Callable[[Facts, dict[str, object]], None] | None = None
