"""Tokenizers in GGUF metadata against those they were written from, or against what a score means."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingot.frontend.gguf.pre_tokenizers import PRE_TOKENIZERS
from ingot.frontend.gguf.tokenizer import tokenizer_files
from ingot.ir.errors import ConfigError
from ingot.runtime.text.tokenizer import Tokenizer
from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

PATH = Path("model.gguf")
TEXTS = (
    "Hello, world! It's 12345 o'clock; we'RE  here.\n\n  def f(x):\n\treturn x**2\r\n",
    "naïve café – “quotes” … ñandú 東京は日本 한국어 Привет мир עברית العربية हिन्दी",
    "  leading,   many    spaces and trailing   ",
    "http://a.b/c?d=e&f=1 1,234.56 £€$ emoji 😀👍🏽 e\u0301 (decomposed) ＡＢＣ x\u00a0y",
    "",
    " ",
)


def trained(pattern: str, *, composed: bool = False) -> Backend:
    """A byte-level tokenizer as those of models are: words by a pattern, and merges of what is frequent."""
    from tokenizers.trainers import BpeTrainer

    backend = Backend(models.BPE())
    if composed:
        backend.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    trainer = BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(TEXTS * 3, trainer)
    return backend


def as_metadata(backend: Backend, pre: str, **more: Any) -> dict[str, Any]:
    model = json.loads(backend.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    special = ["<|begin|>", "<|im_end|>", "<tool>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": (*tokens, *special),
        "tokenizer.ggml.token_type": np.array([1] * len(tokens) + [3, 3, 4], np.int32),
        "tokenizer.ggml.merges": tuple(" ".join(merge) for merge in model["merges"]),
        "tokenizer.ggml.bos_token_id": len(tokens),
        **{f"tokenizer.ggml.{key}": value for key, value in more.items()},
    }


def loaded(folder: Path, metadata: dict[str, Any]) -> Tokenizer:
    for name, text in tokenizer_files(PATH, metadata).items():
        (folder / name).write_text(text, encoding="utf-8")
    return Tokenizer.load(folder)


# As in the models' own tokenizer.json, written out: ours are put together of parts.
OF_MODELS = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


@pytest.mark.parametrize("pre", OF_MODELS)
def test_bytes_are_merged_as_by_the_tokenizer_it_came_from(tmp_path: Path, pre: str) -> None:
    backend = trained(OF_MODELS[pre], composed=pre == "qwen2")
    tokenizer = loaded(tmp_path, as_metadata(backend, pre, add_bos_token=False))
    if PRE_TOKENIZERS[pre].whole_words:
        backend.model.ignore_merges = True
    for text in TEXTS:
        assert tokenizer.encode(text) == backend.encode(text).ids
        expected = backend.normalizer.normalize_str(text) if backend.normalizer else text
        assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_gpt_2_s_words_are_those_of_the_library(tmp_path: Path) -> None:
    backend = trained(r"[\s\S]{1,7}")
    metadata = as_metadata(backend, "gpt-2")
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = loaded(tmp_path, metadata)
    assert [tokenizer.encode(text) for text in TEXTS] == [backend.encode(text).ids for text in TEXTS]


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_every_way_to_cut_keeps_all_characters(tmp_path: Path, pre: str) -> None:
    tokenizer = loaded(tmp_path, as_metadata(trained(r"\s?\S+"), pre, add_bos_token=False))
    for text in TEXTS[:4]:
        wanted = text if not PRE_TOKENIZERS[pre].composed else normalizers.NFC().normalize_str(text)
        assert tokenizer.decode(tokenizer.encode(text)) == wanted


def test_special_tokens_and_templates(tmp_path: Path) -> None:
    backend = trained(OF_MODELS["llama-bpe"])
    metadata = as_metadata(backend, "llama-bpe", eos_token_id=3, eot_token_id=5)
    metadata |= {
        "tokenizer.chat_template": "{{ bos_token }}{{ messages[0].content }}",
        "tokenizer.chat_template.tool_use": "tools",
        "general.sampling.temp": float(np.float32(0.7)),
        "general.sampling.top_k": 20,
    }
    tokenizer = loaded(tmp_path, metadata)
    begin = len(metadata["tokenizer.ggml.tokens"]) - 3
    assert tokenizer.encode("a<|im_end|>b<tool>")[0] == begin, "Llama 3's texts begin with a token"
    assert {begin + 1, begin + 2} <= set(tokenizer.encode("a<|im_end|>b<tool>"))
    assert tokenizer.is_special(begin + 1)
    assert not tokenizer.is_special(begin + 2)
    assert tokenizer.eos_token_ids == {3, 5, begin + 1}
    assert tokenizer.render_chat([{"role": "user", "content": "x"}]) == "<|begin|>x"
    assert tokenizer.chat_template_text(with_tools=True) == "tools"
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation == {"eos_token_id": [3, 5, begin + 1], "temperature": 0.7, "top_k": 20}
    assert loaded(tmp_path, metadata | {"tokenizer.ggml.add_bos_token": False}).encode("a")[0] != begin


def pieces() -> dict[str, Any]:
    """A vocabulary as SentencePiece makes them: special ones, bytes, then pieces in the order of merging."""
    counts = random.Random(3)
    words = [f"▁{word}" for text in TEXTS[:3] for word in text.split()]
    made = sorted(
        {word[:end] for word in words for end in range(2, len(word) + 1)}, key=lambda _: counts.random()
    )
    made = [piece for piece in made if counts.random() < 0.6] + ["▁▁", "▁▁▁▁", "\n\n"]
    characters = sorted({character for text in TEXTS[:3] for character in text if character != " "} | {"▁"})
    normal = [*made, *(character for character in characters if character not in made)]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *normal, "<start_of_turn>"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tuple(tokens),
        "tokenizer.ggml.scores": np.array(
            [0.0] * 259 + [-float(n) for n in range(len(normal))] + [0], np.float32
        ),
        "tokenizer.ggml.token_type": np.array([2, 3, 3] + [6] * 256 + [1] * len(normal) + [3], np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def by_scores(metadata: dict[str, Any], text: str) -> list[int]:
    """SentencePiece's way, as it is defined: always the pair that makes the piece of the highest score."""
    numbers = {token: number for number, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    scores, parts = metadata["tokenizer.ggml.scores"], list(text)
    while True:
        best = max(
            (
                (scores[numbers[left + right]], -at)
                for at, (left, right) in enumerate(pairwise(parts))
                if left + right in numbers
            ),
            default=None,
        )
        if best is None:
            break
        at = -best[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [
        number
        for part in parts
        for number in ([numbers[part]] if part in numbers else [3 + byte for byte in part.encode()])
    ]


@pytest.mark.parametrize("with_prefix", [True, False])
def test_sentence_pieces_are_merged_by_their_scores(tmp_path: Path, with_prefix: bool) -> None:
    metadata = pieces() | {"tokenizer.ggml.add_space_prefix": with_prefix}
    tokenizer = loaded(tmp_path, metadata)
    for text in TEXTS:
        escaped = ("▁" if with_prefix and text else "") + text.replace(" ", "▁")
        assert tokenizer.encode(text) == [1, *by_scores(metadata, escaped)]
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (
        tokenizer.encode("<start_of_turn>", add_special_tokens=False)[-1]
        == len(metadata["tokenizer.ggml.tokens"]) - 1
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.model": "t5"}, "'tokenizer.ggml.model' is 't5'; supported are 'gpt2', 'llama'"),
        ({"tokenizer.ggml.pre": "mine"}, "'tokenizer.ggml.pre' is 'mine'; supported are default, gpt-2"),
        ({"tokenizer.ggml.pre": None}, "'tokenizer.ggml.pre' is None"),
        ({"tokenizer.ggml.tokens": ("a", "a")}, "has a token twice"),
        ({"tokenizer.ggml.tokens": ()}, "has no tokens"),
        ({"tokenizer.ggml.token_type": np.zeros(2, np.int32)}, "has no number for each token"),
        ({"tokenizer.ggml.merges": ("ab",)}, "has 'ab', which is not two tokens"),
        ({"tokenizer.ggml.merges": ("nono nono",)}, "its tokenizer cannot be built"),
        ({"tokenizer.ggml.bos_token_id": "x"}, "'tokenizer.ggml.bos_token_id' must be a token's number"),
        ({"tokenizer.ggml.add_bos_token": 1}, "'tokenizer.ggml.add_bos_token' must be true or false"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    metadata = {**as_metadata(trained(r"\S+"), "gpt-2"), **change}
    with pytest.raises(ConfigError, match=message):
        tokenizer_files(PATH, {key: value for key, value in metadata.items() if value is not None})
