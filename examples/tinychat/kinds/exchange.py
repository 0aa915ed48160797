"""What every kind of talk yields, and the one rule that holds prompts back from training."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Exchange", "Message", "article", "held_back", "invent_word", "normalise", "say", "vary"]

Message = Mapping[str, object]

_HELD_BACK_ONE_IN = 16

_STARTS = (
    *("b", "br", "d", "dr", "f", "g", "gl", "h", "k", "l"),
    *("m", "n", "p", "pl", "r", "s", "st", "t", "v", "z"),
)
_VOWELS = "aeiou"
_ENDS = ("", "", "", *"nrlsmxt")


@dataclass(frozen=True)
class Exchange:
    """A few turns that belong together and end with the assistant's answer.

    ``keys`` name what was asked: for a sum its two numbers, otherwise the words of each prompt that
    means something by itself (so not "And its capital?"). They alone decide whether the exchange may
    be trained on; one without keys is never held back.
    ``expected`` is what the last answer must mean: its text, a JSON value or a tool call.
    """

    kind: str
    keys: tuple[str, ...]
    messages: tuple[Message, ...]
    expected: object


def held_back(key: str) -> bool:
    """Whether no exchange with this key is trained on: so it is for about one key in sixteen."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") % _HELD_BACK_ONE_IN == 0


def normalise(text: str) -> str:
    """The words alone, in lower case, so that no spelling variant of a held-back prompt slips through."""
    return " ".join(re.findall(r"\w+", text.lower()))


def vary(rng: random.Random, text: str) -> str:
    """The prompt as one user or another would type it: courtesy, capitals and full stops come and go."""
    draw = rng.random()
    if draw < 0.08:
        text = rng.choice(("Please ", "please ", "Hey, ", "Hi! ", "Ok, ", "Hello, ")) + text
    elif draw < 0.12:
        text = text.rstrip(".?!") + rng.choice((", please.", " please", ", please?"))
    draw = rng.random()
    if draw < 0.18:
        text = text.rstrip(".?!")
    elif draw < 0.21:
        text += rng.choice(("!", " ?", "??", " "))
    draw = rng.random()
    if draw < 0.14:
        text = text.lower()
    elif draw < 0.20:
        text = text[0].lower() + text[1:]
    return text


def say(*turns: str) -> tuple[Message, ...]:
    """Messages of the user and the assistant, who take turns."""
    roles = ("user", "assistant")
    return tuple({"role": roles[index % 2], "content": text} for index, text in enumerate(turns))


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def invent_word(rng: random.Random, syllables: Sequence[int] = (2, 3)) -> str:
    """A word nobody has seen, so that the model must learn to copy and not only to remember."""
    syllable = (_STARTS, _VOWELS, _ENDS)
    return "".join(rng.choice(sounds) for _ in range(rng.choice(syllables)) for sounds in syllable)
