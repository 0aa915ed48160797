"""Answers as JSON on request: facts, sums, lists, and what a sentence of the user holds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from .exchange import Exchange, invent_word, normalise, say, vary
from .facts import (
    ANIMALS,
    CITIES,
    COLOURS,
    COUNTRIES,
    DAYS,
    FOODS,
    JOBS,
    MONTHS,
    NAMES,
    OPPOSITES,
    PLANETS,
    THINGS,
)
from .sums import draw_pair, sum_key

__all__ = ["make_structured"]

_Ask = tuple[str, str, dict[str, object]]

_TAILS = (
    " Answer as JSON.",
    " Answer as JSON.",
    " Answer in JSON.",
    " Reply as JSON.",
    " Reply in JSON.",
    " Respond with JSON.",
    " Respond in JSON format.",
    " Answer with a JSON object.",
    " Give the answer as JSON.",
    " As JSON, please.",
    " JSON only.",
    " Use JSON.",
    " Return JSON.",
    " Output JSON.",
)
_HEADS = (
    "Answer as JSON: ",
    "Answer in JSON: ",
    "As JSON: ",
    "In JSON: ",
    "Reply in JSON. ",
    "Give me JSON. ",
    "Return JSON: ",
)


def _ask_for_json(rng: random.Random, prompt: str, keys: list[str], *, bare: bool) -> str:
    """Ask for JSON, now and then naming the keys; a bare prompt leaves that to the system prompt."""
    if bare:
        return prompt
    if rng.random() < 0.2:
        listed = ", ".join(keys[:-1]) + " and " + keys[-1] if len(keys) > 1 else keys[0]
        noun = "keys" if len(keys) > 1 else "key"
        return prompt + rng.choice((" Answer as JSON with the {} {}.", " Use JSON with the {} {}.")).format(
            noun, listed
        )
    if rng.random() < 0.25:
        return rng.choice(_HEADS) + prompt
    return prompt + rng.choice(_TAILS)


def _country(rng: random.Random, *, bare: bool = False) -> _Ask:
    country = rng.choice(COUNTRIES)
    asks = {
        "capital": ("What is the capital of {}?", "What's the capital of {}?", "Tell me the capital of {}."),
        "continent": ("On which continent is {}?", "Where is {}?"),
        "language": ("What language do people speak in {}?", "Which language is spoken in {}?"),
        "currency": ("What is the currency of {}?", "Which currency does {} use?"),
    }
    name = country.name.removeprefix("the ")
    draw = rng.random()
    if draw < 0.15:
        value: dict[str, object] = {"country": name, **{fact: getattr(country, fact) for fact in asks}}
        prompt = rng.choice(("Describe {}.", "What do you know about {}?", "Tell me about {}."))
    elif draw < 0.40:
        facts = rng.sample(list(asks), 2)
        value = {"country": name, **{fact: getattr(country, fact) for fact in facts}}
        prompt = rng.choice(
            ("Give the {} and the {} of {{}}.", "What are the {} and the {} of {{}}?")
        ).format(*facts)
    else:
        fact = rng.choice(("capital", *asks))
        value = {"country": name, fact: getattr(country, fact)}
        prompt = rng.choice(asks[fact])
    prompt = _ask_for_json(rng, prompt.format(country.name), list(value), bare=bare)
    return prompt, normalise(prompt), value


def _animal(rng: random.Random, *, bare: bool = False) -> _Ask:
    animal = rng.choice(ANIMALS)
    every: dict[str, object] = {
        "legs": animal.legs,
        "young": animal.young,
        "food": animal.food,
        "home": animal.home,
    }
    if rng.random() < 0.5:
        prompt = rng.choice(("Describe the {}.", "What do you know about the {}?", "Tell me about the {}."))
        value: dict[str, object] = {"animal": animal.name, **every}
    else:
        asks = {
            "legs": "How many legs does the {} have?",
            "young": "What is a baby {} called?",
            "food": "What does the {} eat?",
            "home": "Where does the {} live?",
        }
        fact = rng.choice(list(asks))
        prompt, value = asks[fact], {"animal": animal.name, fact: every[fact]}
    prompt = _ask_for_json(rng, prompt.format(animal.name), list(value), bare=bare)
    return prompt, normalise(prompt), value


def _sum(rng: random.Random, *, bare: bool = False) -> _Ask:
    a, b = draw_pair(rng)
    prompts = ("What is {} + {}?", "What is {} plus {}?", "Add {} and {}.", "{} + {}", "Compute {} + {}.")
    value: dict[str, object] = {"a": a, "b": b, "sum": a + b}
    return _ask_for_json(rng, rng.choice(prompts).format(a, b), list(value), bare=bare), sum_key(a, b), value


def _person(rng: random.Random) -> _Ask:
    """Take the fields out of a sentence; they come in the order in which they are told."""
    name = invent_word(rng).capitalize() if rng.random() < 0.4 else rng.choice(NAMES)
    city = invent_word(rng).capitalize() if rng.random() < 0.25 else rng.choice(CITIES)
    age, job, food, colour = rng.randrange(3, 100), rng.choice(JOBS), rng.choice(FOODS), rng.choice(COLOURS)
    told: dict[str, tuple[str, object]] = {
        "age": (f"is {age} years old", age),
        "city": (f"lives in {city}", city),
        "job": (f"works as a {job}", job),
        "food": (f"likes {food}", food),
        "colour": (f"loves the colour {colour}", colour),
    }
    fields = rng.sample(list(told), rng.choice((1, 2, 2, 3)))
    parts = [told[field][0] for field in fields]
    body = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    sentence = f"{name} {body}."
    value: dict[str, object] = {"name": name, **{field: told[field][1] for field in fields}}
    asks = (
        "{} Answer as JSON.",
        "Write this as JSON: {}",
        "Turn this into JSON: {}",
        "Convert to JSON: {}",
        "Extract the facts as JSON: {}",
        "Make JSON of this: {}",
        "{} Give me that as JSON.",
        "{} Put this into JSON.",
    )
    prompt = rng.choice(asks).format(sentence)
    if rng.random() < 0.3:
        prompt = f"Extract {', '.join(value)} as JSON: {sentence}"
    return prompt, normalise(prompt), value


def _thing(rng: random.Random) -> _Ask:
    colour, thing, count = rng.choice(COLOURS), rng.choice(THINGS), rng.randrange(2, 30)
    thing = invent_word(rng) if rng.random() < 0.25 else thing
    prompts = ("Write this as JSON: {c} {t}, {n} pieces.", "Make JSON: {n} pieces of {c} {t}.")
    prompt = rng.choice(prompts).format(c=colour, t=thing, n=count)
    return prompt, normalise(prompt), {"item": thing, "colour": colour, "count": count}


def _list(rng: random.Random, *, bare: bool = False) -> _Ask:
    kind, words = rng.choice(
        (
            ("animals", tuple(animal.name for animal in ANIMALS[:10])),
            ("colours", COLOURS),
            ("days", DAYS),
            ("months", MONTHS),
            ("planets", PLANETS),
            ("foods", FOODS[:8]),
            ("names", NAMES[:8]),
        )
    )
    count = rng.randrange(2, 6)
    number = rng.choice((str(count), ("two", "three", "four", "five")[count - 2]))
    prompt = rng.choice(("List {} {}.", "Name {} {}.", "Give me {} {}.")).format(number, kind)
    prompt = _ask_for_json(rng, prompt, [kind], bare=bare)
    return prompt, normalise(prompt), {kind: list(words[:count])}


def _opposite(rng: random.Random, *, bare: bool = False) -> _Ask:
    pair = rng.choice(OPPOSITES)
    word, other = pair if rng.random() < 0.5 else pair[::-1]
    prompt = rng.choice(("What is the opposite of {}?", "Give the opposite of {}.")).format(word)
    prompt = _ask_for_json(rng, prompt, ["word", "opposite"], bare=bare)
    return prompt, normalise(prompt), {"word": word, "opposite": other}


_QUESTIONS: tuple[tuple[float, Callable[..., _Ask]], ...] = (
    (0.30, _country),
    (0.12, _animal),
    (0.14, _sum),
    (0.06, _list),
    (0.06, _opposite),
)
_EXTRACTIONS: tuple[tuple[float, Callable[..., _Ask]], ...] = ((0.26, _person), (0.06, _thing))


def make_structured(rng: random.Random, *, bare: bool = False) -> Exchange:
    """One question answered by one bare JSON object.

    The user asks for JSON; or, if ``bare``, the system prompt of the conversation has done so.
    """
    weights, topics = zip(*(_QUESTIONS if bare else _QUESTIONS + _EXTRACTIONS), strict=True)
    topic = rng.choices(topics, weights)[0]
    prompt, key, value = topic(rng, bare=True) if bare else topic(rng)
    return Exchange("json", (key,), say(vary(rng, prompt), json.dumps(value, ensure_ascii=False)), value)
