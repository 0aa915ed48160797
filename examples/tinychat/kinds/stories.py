"""Short stories: a plot, its people and its words are drawn; what happens follows from them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .exchange import Exchange, article, invent_word, normalise, say, vary
from .facts import ADJECTIVES, ANIMALS, COLOURS, JOBS, NAMES, PLACES, THINGS
from .plots import CLOSINGS, OPENINGS, PLOTS

__all__ = ["make_document", "make_story"]

_BEINGS = (
    "robot",
    "dragon",
    "princess",
    "wizard",
    "giant",
    "knight",
    "pirate",
    "witch",
    "king",
    "queen",
    "fairy",
)
_CHILDREN = ("girl", "boy")
_SHE = ("girl", "princess", "witch", "queen", "fairy")
_IT = ("robot", "snail", "spider", "ant", "butterfly")


@dataclass(frozen=True)
class _Cast:
    """Who and what a story is about."""

    hero: str
    name: str
    subject: str
    object: str
    possessive: str
    adjective: str
    place: str
    friend: str
    friend_name: str
    thing: str
    colour: str


def _draw_hero(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.60:
        return rng.choice(ANIMALS).name
    if draw < 0.75:
        return rng.choice(_BEINGS)
    if draw < 0.83:
        return rng.choice(_CHILDREN)
    if draw < 0.90:
        return rng.choice(JOBS)
    return invent_word(rng)


def _draw_name(rng: random.Random) -> str:
    return invent_word(rng).capitalize() if rng.random() < 0.2 else rng.choice(NAMES)


def _draw_cast(rng: random.Random) -> _Cast:
    hero, friend = _draw_hero(rng), rng.choice(ANIMALS).name
    while friend == hero:
        friend = rng.choice(ANIMALS).name
    name, friend_name = _draw_name(rng), _draw_name(rng)
    while friend_name == name:
        friend_name = _draw_name(rng)
    pronouns = ("he", "him", "his")
    if hero in _SHE or (hero not in ("boy", "king", "knight", "wizard", "giant") and rng.random() < 0.5):
        pronouns = ("she", "her", "her")
    if hero in _IT:
        pronouns = ("it", "it", "its")
    return _Cast(
        hero,
        name,
        *pronouns,
        adjective=rng.choice(ADJECTIVES),
        place=rng.choice(PLACES),
        friend=friend,
        friend_name=friend_name,
        thing=rng.choice(THINGS),
        colour=rng.choice(COLOURS),
    )


def _tell(rng: random.Random, cast: _Cast) -> str:
    """One story of six to eight sentences about this cast."""
    fields = {
        **vars(cast),
        "Subject": cast.subject.capitalize(),
        "near": "on" if cast.place in ("hill", "farm", "island", "beach", "mountain") else "near",
        "a_hero": article(f"{cast.adjective} {cast.hero}"),
        "a_place": article(cast.place),
        "a_thing": article(f"{cast.colour} {cast.thing}"),
        "a_plain_thing": article(cast.thing),
        "a_friend": article(cast.friend),
        "A_friend": article(cast.friend).capitalize(),
    }
    plot = PLOTS[rng.choice(tuple(PLOTS))]
    lines = [rng.choice(choices) for choices in (OPENINGS, *plot, CLOSINGS)]
    return " ".join(lines).format(**fields)


_ASKS = (
    "Tell me a short story about {it}.",
    "Tell me a short story about {it}.",
    "Tell me a story about {it}.",
    "Write a short story about {it}.",
    "Write a story about {it}.",
    "Can you tell me a story about {it}?",
    "Can you write a story about {it}?",
    "I want to hear a story about {it}.",
    "I would like a story about {it}.",
    "A story about {it}, please.",
    "Make up a story about {it}.",
    "story about {it}",
    "Tell a tale about {it}.",
    "Give me a short story about {it}.",
    "Write a little story about {it} for my child.",
)
_ASKS_ANY = (
    "Tell me a story.",
    "Tell me a short story.",
    "Tell me another story.",
    "Write a story.",
    "Write a short story.",
    "Can you tell me a story?",
    "Once more, a story please.",
    "Story please!",
    "I want a story.",
)


def _ask(rng: random.Random, cast: _Cast) -> str:
    draw = rng.random()
    if draw < 0.12:
        return rng.choice(_ASKS_ANY)
    if draw < 0.50:
        it = article(cast.hero)
    elif draw < 0.65:
        it = article(f"{cast.adjective} {cast.hero}")
    elif draw < 0.85:
        named = rng.choice(("named", "called", "with the name"))
        it = f"{article(cast.hero)} {named} {cast.name}"
    elif draw < 0.93:
        it = f"{article(cast.hero)} and {article(cast.friend)}"
    else:
        it = f"{cast.name} the {cast.hero}"
    return rng.choice(_ASKS).format(it=it)


def _question(rng: random.Random, cast: _Cast) -> tuple[str, str]:
    choices = (
        (f"What was the name of the {cast.hero}?", f"The name of the {cast.hero} was {cast.name}."),
        (f"What was the {cast.hero} called?", f"The name of the {cast.hero} was {cast.name}."),
        ("Who was the story about?", f"It was about {article(cast.hero)} named {cast.name}."),
        (f"Who was {cast.name}?", f"{cast.name} was {article(cast.hero)}."),
        (f"Who was {cast.friend_name}?", f"{cast.friend_name} was {article(cast.friend)}."),
    )
    return rng.choice(choices)


def make_story(rng: random.Random) -> Exchange:
    """A story on request, sometimes with a question about it afterwards."""
    cast = _draw_cast(rng)
    ask, story = _ask(rng, cast), _tell(rng, cast)
    generic = normalise(ask) in map(normalise, _ASKS_ANY)
    turns = [vary(rng, ask), story]
    if rng.random() < 0.25:
        question, answer = _question(rng, cast)
        if cast.friend_name in story or cast.friend_name not in question:
            turns += [vary(rng, question), answer]
    return Exchange("stories", () if generic else (normalise(ask),), say(*turns), turns[-1])


def make_document(rng: random.Random) -> str:
    """A story alone, as plain text to be continued."""
    return _tell(rng, _draw_cast(rng))
