"""From a GGUF file's metadata to the files of a tokenizer as Hugging Face's folders have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...ir.errors import ConfigError
from .cursor import MetadataValue
from .pre_tokenizers import PRE_TOKENIZERS
from .vocabulary import TokenType, Vocabulary

__all__ = ["tokenizer_files"]

_SPECIAL = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "mask": "mask",
}
"""What tokens are for, by the names in ``tokenizer_config.json``; one is misspelt in files."""

_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}

_SPACE = "▁"
_LONGEST_PIECE = 256
"""Characters; SentencePiece makes none longer than 16, and added ones are runs of spaces."""
_TEMPLATE = "tokenizer.chat_template"


def tokenizer_files(path: Path, metadata: Mapping[str, MetadataValue]) -> Mapping[str, str]:
    """The texts of ``tokenizer.json``, ``tokenizer_config.json`` and ``generation_config.json``, by name.

    Raises:
        ConfigError: there is no tokenizer, or it is of a kind that is not supported.
    """
    vocabulary = Vocabulary.of(path, metadata)
    tokenizer = _tokenizer(vocabulary)
    text = json.dumps(tokenizer, ensure_ascii=False)
    _check(path, text)
    return {
        "tokenizer.json": text,
        "tokenizer_config.json": json.dumps(_settings(vocabulary), indent=2, ensure_ascii=False),
        "generation_config.json": json.dumps(_generation(vocabulary), indent=2),
    }


def _check(path: Path, text: str) -> None:
    """Let the library that will read it say whether it can."""
    import tokenizers

    try:
        tokenizers.Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except (
        BaseException
    ) as error:  # tokenizers raises bare Exception, and where its Rust panics not even that
        raise ConfigError(f"{path}: its tokenizer cannot be built: {error}") from error


def _tokenizer(vocabulary: Vocabulary) -> dict[str, object]:
    kind = vocabulary.text("model")
    if kind == "gpt2":
        parts, begins = _byte_level(vocabulary)
    elif kind == "llama":
        parts, begins = _sentence_pieces(vocabulary), True
    else:
        raise vocabulary.refuse("model", f"is {kind!r}; supported are 'gpt2', 'llama'")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocabulary),
        **parts,
        "post_processor": _post_processor(vocabulary, begins),
    }


def _byte_level(vocabulary: Vocabulary) -> tuple[dict[str, object], bool]:
    """Merges of bytes within words; and whether texts begin with a token where the file does not say."""
    name = vocabulary.text("pre")
    if name is None or name not in PRE_TOKENIZERS:
        raise vocabulary.refuse("pre", f"is {name!r}; supported are {', '.join(PRE_TOKENIZERS)}")
    pre = PRE_TOKENIZERS[name]
    merges = vocabulary.texts("merges")
    if merges is None:
        raise vocabulary.refuse("merges", "is missing")
    splits: list[dict[str, object]] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in pre.patterns
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    parts: dict[str, object] = {
        "normalizer": {"type": "NFC"} if pre.composed else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "ignore_merges": pre.whole_words,
            "vocab": {token: number for number, token in enumerate(vocabulary.tokens)},
            "merges": [_parts(vocabulary, merge) for merge in merges],
        },
    }
    return parts, pre.begins


def _parts(vocabulary: Vocabulary, merge: str) -> tuple[str, str]:
    """What a merge joins; a space parts the two, and is the first character of none but the first."""
    at = merge.find(" ", 1)
    if at < 0:
        raise vocabulary.refuse("merges", f"has {merge!r}, which is not two tokens")
    return merge[:at], merge[at + 1 :]


def _sentence_pieces(vocabulary: Vocabulary) -> dict[str, object]:
    """SentencePiece's way: of the pieces that two neighbours make, the one of the highest score is next."""
    with_prefix = vocabulary.flag("add_space_prefix", True)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prefix = [{"type": "Prepend", "prepend": _SPACE}] if with_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if with_prefix else []
    unknown = vocabulary.token_id("unknown")
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, spaces]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": vocabulary.tokens[0 if unknown is None else unknown],
            "fuse_unk": True,
            "byte_fallback": bool(vocabulary.numbers_of(TokenType.BYTE)),
            "vocab": {token: number for number, token in enumerate(vocabulary.tokens)},
            "merges": _merges(vocabulary),
        },
    }


def _merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Each way to make a piece of two, those of higher scores first, and of equal scores longer ones."""
    scores = vocabulary.get("scores")
    if not isinstance(scores, np.ndarray) or len(scores) != len(vocabulary.tokens):
        raise vocabulary.refuse("scores", "has no number for each token")
    pieces = set(vocabulary.tokens)
    found = [
        (-float(scores[number]), -cut, piece)
        for number in vocabulary.numbers_of(TokenType.NORMAL, TokenType.USER_DEFINED)
        if len(piece := vocabulary.tokens[number]) <= _LONGEST_PIECE
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    return [(piece[:-cut], piece[-cut:]) for _, cut, piece in sorted(found)]


def _added(vocabulary: Vocabulary) -> list[dict[str, object]]:
    """Tokens that stand for their text wherever it is; control tokens have none when an answer is read."""
    special = vocabulary.numbers_of(TokenType.CONTROL, TokenType.UNKNOWN)
    others = vocabulary.numbers_of(TokenType.USER_DEFINED)
    return [
        {
            "id": number,
            "content": vocabulary.tokens[number],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": vocabulary.types[number] != TokenType.USER_DEFINED,
        }
        for number in sorted((*special, *others))
    ]


def _post_processor(vocabulary: Vocabulary, begins: bool) -> dict[str, object] | None:
    """What stands before and behind a text."""
    begin = vocabulary.token_id("bos") if vocabulary.flag("add_bos_token", begins) else None
    end = vocabulary.token_id("eos") if vocabulary.flag("add_eos_token", False) else None
    if begin is None and end is None:
        return None

    def around(text: str, kind: int) -> list[dict[str, object]]:
        return [
            *_special(vocabulary, begin, kind),
            {"Sequence": {"id": text, "type_id": kind}},
            *_special(vocabulary, end, kind),
        ]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {
            vocabulary.tokens[number]: {
                "id": vocabulary.tokens[number],
                "ids": [number],
                "tokens": [vocabulary.tokens[number]],
            }
            for number in (begin, end)
            if number is not None
        },
    }


def _special(vocabulary: Vocabulary, number: int | None, kind: int) -> list[dict[str, object]]:
    if number is None:
        return []
    return [{"SpecialToken": {"id": vocabulary.tokens[number], "type_id": kind}}]


def _settings(vocabulary: Vocabulary) -> dict[str, object]:
    """The fields of a ``tokenizer_config.json``."""
    settings: dict[str, object] = {
        f"{name}_token": vocabulary.tokens[number]
        for name, there in _SPECIAL.items()
        if (number := vocabulary.token_id(there)) is not None
    }
    templates = {
        key.removeprefix(_TEMPLATE).removeprefix(".") or "default": value
        for key, value in vocabulary.metadata.items()
        if (key == _TEMPLATE or key.startswith(f"{_TEMPLATE}.")) and isinstance(value, str)
    }
    if set(templates) == {"default"}:
        settings["chat_template"] = templates["default"]
    elif templates:
        settings["chat_template"] = [
            {"name": name, "template": template} for name, template in templates.items()
        ]
    return settings


def _generation(vocabulary: Vocabulary) -> dict[str, object]:
    """The fields of a ``generation_config.json``: the tokens that end an answer, and what is recommended."""
    ends = vocabulary.ends()
    recommended = {
        name: vocabulary.metadata.get(f"general.sampling.{there}") for there, name in _SAMPLING.items()
    }
    return {
        **({"eos_token_id": list(ends)} if ends else {}),
        **{
            name: float(str(np.float32(value))) if isinstance(value, float) else value
            for name, value in recommended.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        },
    }
