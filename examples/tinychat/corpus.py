"""The text tinychat learns from: generated, seeded, with prompts of every kind held back.

``training_set(seed, count)`` gives the same conversations on every machine. ``held_back_set`` gives
exchanges with a prompt that occurs in no training set of any seed, because a hash of what is asked
(`kinds.exchange.held_back`) sends every prompt to one side or the other.

Run as a script it prints a few conversations of both sets.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .kinds.exchange import Exchange, Message, held_back
from .kinds.questions import make_question
from .kinds.smalltalk import make_smalltalk
from .kinds.stories import make_document, make_story
from .kinds.structured import make_structured
from .kinds.sums import make_sum
from .kinds.tool_calls import Tool, draw_tools, make_call

__all__ = ["HELD_BACK_KINDS", "Conversation", "Document", "HeldBack", "held_back_set", "training_set"]

HELD_BACK_KINDS = ("sums", "questions", "json", "tools", "stories")


@dataclass(frozen=True)
class Conversation:
    """Messages for the chat template, with the schemas of the tools offered (often none)."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class Document:
    """Plain text that is not a conversation."""

    text: str


@dataclass(frozen=True)
class HeldBack:
    """An exchange that was never trained on, with the tools offered for it."""

    exchange: Exchange
    tools: tuple[Mapping[str, object], ...] = ()


_MIX: tuple[tuple[float, Callable[[random.Random], Exchange]], ...] = (
    (0.36, make_sum),
    (0.26, make_question),
    (0.18, make_structured),
    (0.10, make_story),
    (0.10, make_smalltalk),
)
_SHARE_OF_DOCUMENTS = 0.03
_SHARE_WITH_TOOLS = 0.16
_SHARE_OF_JSON_ONLY = 0.03

_SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are tinychat.",
    "You are tinychat, a small and friendly model.",
    "You are a friendly assistant. Be brief.",
    "Be brief.",
    "Answer the user's questions.",
    "You are a kind teacher who talks with children.",
    "You are a helpful AI assistant. Answer as well as you can.",
    "You are an expert. Keep your answers short and clear.",
)
_JSON_SYSTEMS = (
    "Answer in JSON.",
    "Always answer as JSON.",
    "You are a helpful assistant that answers in JSON.",
    "Respond only with JSON.",
    "Reply with a JSON object and nothing else.",
)


def _trainable(make: Callable[[], Exchange]) -> Exchange:
    """The first exchange that is not held back."""
    while any(map(held_back, (exchange := make()).keys)):
        pass
    return exchange


def _draw_system(rng: random.Random) -> tuple[Message, ...]:
    return ({"role": "system", "content": rng.choice(_SYSTEMS)},) if rng.random() < 0.4 else ()


def _draw_length(rng: random.Random) -> int:
    return rng.choices((1, 2, 3, 4, 5, 6, 7, 8), (46, 20, 12, 8, 5, 4, 3, 2))[0]


def _schemas(tools: list[Tool]) -> tuple[Mapping[str, object], ...]:
    return tuple(tool.schema for tool in tools)


def _with_tools(rng: random.Random) -> Conversation:
    tools = draw_tools(rng)
    messages = list(_draw_system(rng))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.8:
            messages += _trainable(lambda: make_call(rng, tools)).messages
        else:
            # Not everything needs a tool; sums are left out, for a tool that adds may be at hand.
            make = rng.choice((make_smalltalk, make_question, make_story))
            messages += _trainable(lambda make=make: make(rng)).messages  # type: ignore[misc]
    return Conversation(tuple(messages), _schemas(tools))


def _json_only(rng: random.Random) -> Conversation:
    messages: list[Message] = [{"role": "system", "content": rng.choice(_JSON_SYSTEMS)}]
    for _ in range(_draw_length(rng)):
        messages += _trainable(lambda: make_structured(rng, bare=rng.random() < 0.8)).messages
    return Conversation(tuple(messages))


def _mixed(rng: random.Random) -> Conversation:
    weights, kinds = zip(*_MIX, strict=True)
    messages, previous = list(_draw_system(rng)), ""
    for _ in range(_draw_length(rng)):
        make = rng.choices(kinds, weights)[0]
        if previous == "sums" and rng.random() < 0.6:
            exchange = _trainable(lambda: make_sum(rng, follow_up=True))
        else:
            exchange = _trainable(lambda make=make: make(rng))  # type: ignore[misc]
        messages += exchange.messages
        previous = exchange.kind
    return Conversation(tuple(messages))


def _drill(rng: random.Random) -> Conversation:
    messages, length = list(_draw_system(rng)), rng.randint(4, 8)
    for number in range(length):
        follow_up = number > 0 and rng.random() < 0.6
        messages += _trainable(lambda follow_up=follow_up: make_sum(rng, follow_up=follow_up)).messages  # type: ignore[misc]
    return Conversation(tuple(messages))


def training_set(seed: int, count: int, *, share_of_drills: float = 0.0) -> Iterator[Conversation | Document]:
    """``count`` conversations and documents, the same for the same seed.

    ``share_of_drills`` is the part of them that is nothing but sums.
    """
    rng = random.Random(f"tinychat-train-{seed}")
    for _ in range(count):
        if share_of_drills and rng.random() < share_of_drills:
            yield _drill(rng)
            continue
        draw = rng.random()
        if draw < _SHARE_OF_DOCUMENTS:
            yield Document(make_document(rng))
        elif draw < _SHARE_OF_DOCUMENTS + _SHARE_WITH_TOOLS:
            yield _with_tools(rng)
        elif draw < _SHARE_OF_DOCUMENTS + _SHARE_WITH_TOOLS + _SHARE_OF_JSON_ONLY:
            yield _json_only(rng)
        else:
            yield _mixed(rng)


def held_back_set(kind: str, count: int, *, seed: int = 0) -> list[HeldBack]:
    """``count`` different exchanges of a kind (one of `HELD_BACK_KINDS`) that are never trained on.

    Raises `ValueError` for a kind that does not exist.
    """
    makers: dict[str, Callable[[random.Random], Exchange]] = {
        "sums": make_sum,
        "questions": make_question,
        "json": make_structured,
        "stories": make_story,
    }
    if kind != "tools" and kind not in makers:
        raise ValueError(f"no prompts of kind {kind!r} are held back; there are {', '.join(HELD_BACK_KINDS)}")
    rng = random.Random(f"tinychat-held-back-{kind}-{seed}")
    found: dict[str, HeldBack] = {}
    while len(found) < count:
        if kind == "tools":
            tools = draw_tools(rng)
            candidate = HeldBack(make_call(rng, tools), _schemas(tools))
        else:
            candidate = HeldBack(makers[kind](rng))
        if any(map(held_back, candidate.exchange.keys)):
            found.setdefault(" / ".join(candidate.exchange.keys), candidate)
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10, help="how many conversations to print")
    options = parser.parse_args()
    for item in training_set(options.seed, options.count):
        if isinstance(item, Document):
            print(f"document: {item.text}\n")
            continue
        for tool in item.tools:
            print(f"tool offered: {tool['function']}")
        for message in item.messages:
            print(f"{message['role']}: {message['content'] or message.get('tool_calls')}")
        print()
    for kind in HELD_BACK_KINDS:
        for held in held_back_set(kind, 2, seed=options.seed):
            print(f"held back, {kind}: {held.exchange.messages[0]['content']}")


if __name__ == "__main__":
    main()
