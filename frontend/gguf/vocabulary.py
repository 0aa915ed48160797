"""The tokens in a GGUF file's metadata, and what they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from ...ir.errors import ConfigError
from .cursor import MetadataValue

__all__ = ["TokenType", "Vocabulary"]

_PREFIX = "tokenizer.ggml."

_ENDS = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>"),
        *("<|end_of_text|>", "<|eom_id|>", "<EOT>", "[EOT]", "[EOS]", "</s>", "<eos>", "<end_of_utterance>"),
        *("<｜end▁of▁sentence｜>"),
    }
)
"""Texts of tokens that end an answer, whatever else a file says: conversions name one or two of them."""

_END_OF_MESSAGE, _ENDS_BESIDE_IT = "<|end|>", frozenset({"<|return|>", "<|call|>"})
"""Where there are these two, as in gpt-oss, the first only ends a message within an answer."""


class TokenType(IntEnum):
    """What kind of token it is, as ``tokenizer.ggml.token_type`` has it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model.

    Attributes:
        path: the file, for messages.
        metadata: all of it.
        tokens: their texts, each once.
        types: what kind each is; a number that stands for none is that of a normal token.
    """

    path: Path
    metadata: Mapping[str, MetadataValue]
    tokens: tuple[str, ...]
    types: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, metadata: Mapping[str, MetadataValue]) -> Vocabulary:
        """The vocabulary in ``metadata``.

        Raises:
            ConfigError: there is none, or it contradicts itself.
        """
        tokens = metadata.get(f"{_PREFIX}tokens")
        if not isinstance(tokens, tuple) or not tokens:
            raise ConfigError(f"{path}: metadata '{_PREFIX}tokens' has no tokens")
        named = tuple(token or f"[EMPTY_{number}]" for number, token in enumerate(tokens))
        if len(set(named)) != len(named):
            raise ConfigError(f"{path}: metadata '{_PREFIX}tokens' has a token twice")
        types = metadata.get(f"{_PREFIX}token_type")
        if types is None:
            kinds = (int(TokenType.NORMAL),) * len(named)
        elif isinstance(types, np.ndarray) and types.dtype.kind in "iu" and len(types) == len(named):
            kinds = tuple(types.tolist())
        else:
            raise ConfigError(f"{path}: metadata '{_PREFIX}token_type' has no number for each token")
        return cls(path, metadata, named, kinds)

    def refuse(self, key: str, reason: str) -> ConfigError:
        """The error that says ``reason`` of a value of the metadata, for the caller to raise."""
        return ConfigError(f"{self.path}: metadata '{_PREFIX}{key}' {reason}")

    def get(self, key: str) -> MetadataValue | None:
        """A value of the metadata below the tokenizer's prefix."""
        return self.metadata.get(f"{_PREFIX}{key}")

    def text(self, key: str) -> str | None:
        """A string of the metadata; raises :class:`ConfigError` where it is something else."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.refuse(key, f"must be a string, not {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false; raises :class:`ConfigError` where it is something else."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(key, f"must be true or false, not {value!r}")
        return value

    def texts(self, key: str) -> Sequence[str] | None:
        """An array of strings; raises :class:`ConfigError` where it is something else."""
        value = self.get(key)
        if value is not None and not isinstance(value, tuple):
            raise self.refuse(key, "must be an array of strings")
        return value

    def token_id(self, name: str) -> int | None:
        """The token named ``NAME_token_id``; raises :class:`ConfigError` where it is none of the tokens."""
        value = self.get(f"{name}_token_id")
        if value is None:
            return None
        if type(value) is not int:
            raise self.refuse(f"{name}_token_id", f"must be a token's number, not {value!r}")
        # Some conversions write the largest number there is for a token that there is not.
        return value if 0 <= value < len(self.tokens) else None

    def numbers_of(self, *types: TokenType) -> tuple[int, ...]:
        """The tokens of these types."""
        return tuple(number for number, kind in enumerate(self.types) if kind in types)

    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer, the one that files always name first."""
        named = [self.token_id(name) for name in ("eos", "eot", "eom")]
        texts = {self.tokens[n]: n for n in self.numbers_of(TokenType.CONTROL, TokenType.USER_DEFINED)}
        known = _ENDS & set(texts)
        if known >= _ENDS_BESIDE_IT:
            known -= {_END_OF_MESSAGE}
        found = [number for number in named if number is not None]
        return tuple(dict.fromkeys([*found, *sorted(texts[text] for text in known)]))
