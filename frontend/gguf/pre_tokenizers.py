r"""How text is cut into words before bytes are merged, by ``tokenizer.ggml.pre``.

The patterns are those of the models' own ``tokenizer.json``. They are matched one after the other, each on
what those before it left in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PRE_TOKENIZERS", "PreTokenizer"]


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How a text is cut.

    Attributes:
        patterns: what makes a piece of its own, one after the other.
        whole_words: whether a word that is a token is not put together by merges.
        begins: whether a text begins with the token for beginnings where a file does not say.
        composed: whether characters are composed before (Unicode's NFC).
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    begins: bool = False
    composed: bool = False


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA_3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_OTHERS}|{_SPACES}"
_QWEN_2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_OTHERS}|{_SPACES}"
_QWEN_35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_SEED = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}"
    rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
)
_BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
_GPT_4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_DEEPSEEK_3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")

_OF_GPT_2 = PreTokenizer((_GPT_2,))
_OF_STARCODER = PreTokenizer((r"\p{N}", _GPT_2))
_OF_LLAMA_3 = PreTokenizer((_LLAMA_3,), whole_words=True, begins=True)
_OF_QWEN_2 = PreTokenizer((_QWEN_2,), composed=True)
_OF_DEEPSEEK_3 = PreTokenizer(_DEEPSEEK_3)
_OF_GPT_4O = PreTokenizer((_GPT_4O,))
_OF_BAILING = PreTokenizer((_BAILING,))

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = MappingProxyType(
    {
        "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]")),
        **dict.fromkeys(
            (
                *("gpt-2", "phi-2", "mpt", "olmo", "jais", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de"),
                *("gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4", "trillion", "granite-docling"),
            ),
            _OF_GPT_2,
        ),
        **dict.fromkeys(
            ("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"),
            _OF_STARCODER,
        ),
        **dict.fromkeys(
            ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
            _OF_LLAMA_3,
        ),
        **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe", "glm4"), PreTokenizer((_LLAMA_3,))),
        **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), _OF_QWEN_2),
        **dict.fromkeys(("stablelm2", "hunyuan", "grok-2"), PreTokenizer((_QWEN_2,))),
        "qwen35": PreTokenizer((_QWEN_35,), composed=True),
        **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), _OF_GPT_4O),
        "tekken": PreTokenizer((_TEKKEN,), whole_words=True, begins=True),
        "seed-coder": PreTokenizer((_SEED,)),
        **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), _OF_BAILING),
        **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), _OF_DEEPSEEK_3),
        "deepseek-coder": PreTokenizer(_DEEPSEEK_CODER),
    }
)
"""By ``tokenizer.ggml.pre``."""
