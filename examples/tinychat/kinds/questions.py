"""Questions and answers in several turns: facts, and what the user said a moment ago."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from .exchange import Exchange, article, invent_word, normalise, say, vary
from .facts import (
    ANIMALS,
    CITIES,
    COLOUR_OF,
    COLOURS,
    COUNTRIES,
    DAYS,
    FOODS,
    JOBS,
    MONTHS,
    NAMES,
    NUMBER_WORDS,
    OPPOSITES,
    PLANETS,
    Animal,
    Country,
)

__all__ = ["make_question"]

_Turns = list[str]

_COUNTRY_ASKS: Mapping[str, tuple[str, ...]] = {
    "capital": (
        "What is the capital of {name}?",
        "What is the capital city of {name}?",
        "What's the capital of {name}?",
        "Which city is the capital of {name}?",
        "Do you know the capital of {name}?",
        "Tell me the capital of {name}.",
        "Name the capital of {name}.",
        "Can you tell me what the capital of {name} is?",
        "capital of {name}?",
    ),
    "continent": (
        "On which continent is {name}?",
        "Where is {name}?",
        "In which part of the world is {name}?",
        "What continent is {name} in?",
        "Which continent does {name} belong to?",
    ),
    "language": (
        "What language do people speak in {name}?",
        "Which language is spoken in {name}?",
        "What do they speak in {name}?",
        "What is the language of {name}?",
        "Tell me the language of {name}.",
    ),
    "currency": (
        "What is the currency of {name}?",
        "Which currency does {name} use?",
        "What money do they use in {name}?",
        "What currency do they use in {name}?",
        "How do people pay in {name}?",
    ),
    "about": (
        "Tell me about {name}.",
        "What do you know about {name}?",
        "Describe {name}.",
        "What is {name}?",
    ),
}

_COUNTRY_ANSWERS = {
    "capital": "The capital of {name} is {capital}.",
    "continent": "{name} is in {continent}.",
    "language": "People in {name} speak {language}.",
    "currency": "The currency of {name} is the {currency}.",
    "about": "{name} is in {continent}. Its capital is {capital}, and people there speak {language}.",
}

_COUNTRY_MORE = {
    "capital": (
        "And its capital?",
        "What is its capital?",
        "And what is the capital?",
        "Which city is its capital?",
    ),
    "continent": (
        "Where is it?",
        "On which continent is it?",
        "And the continent?",
        "Which continent is that?",
    ),
    "language": ("What do they speak there?", "And which language do they speak?", "And the language?"),
    "currency": ("And the currency?", "What money do they use there?", "Which currency do they use?"),
}

_ANIMAL_ASKS: Mapping[str, tuple[str, ...]] = {
    "legs": ("How many legs does {one} have?", "How many legs do {many} have?", "How many legs has {one}?"),
    "young": (
        "What is a young {name} called?",
        "What is a baby {name} called?",
        "What do you call a baby {name}?",
        "What's the name for a baby {name}?",
    ),
    "food": (
        "What does {one} eat?",
        "What do {many} eat?",
        "What does {one} like to eat?",
        "What can I feed {one}?",
    ),
    "home": ("Where does {one} live?", "Where do {many} live?", "What is the home of {one}?"),
}

_ANIMAL_MORE = {
    "legs": ("How many legs does it have?", "And how many legs does it have?"),
    "young": ("What is its baby called?", "And what is a young one called?"),
    "food": ("What does it eat?", "And what does it eat?", "What does it like to eat?"),
    "home": ("Where does it live?", "And where does it live?"),
}


_ANOTHER_COUNTRY = ("And {}?", "What about {}?", "And of {}?", "How about {}?")
_ANOTHER_ANIMAL = ("And {}?", "What about {}?", "How about {}?")
_COLOUR_ASKS = ("What colour is {}?", "What color is {}?", "Which colour is {}?", "What colour does {} have?")


def _plural(noun: str) -> str:
    """The plural of an animal's name."""
    irregular = {"mouse": "mice", "sheep": "sheep", "deer": "deer", "goose": "geese", "wolf": "wolves"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith(("x", "ch", "s")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _country_answer(country: Country, fact: str) -> str:
    """The one sentence with which a country's fact is always given."""
    return _sentence(_COUNTRY_ANSWERS[fact].format(**vars(country)))


def _animal_answer(animal: Animal, fact: str) -> str:
    """The one sentence with which an animal's fact is always given."""
    one = _sentence(article(animal.name))
    if fact == "legs":
        return f"{one} has {NUMBER_WORDS[animal.legs]} legs."
    if fact == "young":
        return f"A young {animal.name} is called {article(animal.young)}."
    if fact == "food":
        return f"{one} eats {animal.food}."
    return f"{one} lives in {animal.home}."


def _about_countries(rng: random.Random) -> _Turns:
    country, facts = rng.choice(COUNTRIES), list(_COUNTRY_MORE)
    fact = rng.choice(("capital", "about", *facts))
    turns = [rng.choice(_COUNTRY_ASKS[fact]).format(name=country.name), _country_answer(country, fact)]
    while rng.random() < 0.6 and len(turns) < 10:
        if rng.random() < 0.5:
            fact = rng.choice([other for other in facts if other != fact])
            turns.append(rng.choice(_COUNTRY_MORE[fact]))
        else:
            country = rng.choice(COUNTRIES)
            turns.append(rng.choice(_ANOTHER_COUNTRY).format(country.name))
        turns.append(_country_answer(country, fact))
    return turns


def _about_animals(rng: random.Random) -> _Turns:
    animal, facts = rng.choice(ANIMALS), list(_ANIMAL_ASKS)
    fact = rng.choice(facts)
    words = {"name": animal.name, "one": article(animal.name), "many": _plural(animal.name)}
    turns = [rng.choice(_ANIMAL_ASKS[fact]).format(**words), _animal_answer(animal, fact)]
    while rng.random() < 0.5 and len(turns) < 10:
        if rng.random() < 0.5:
            fact = rng.choice([other for other in facts if other != fact])
            turns.append(rng.choice(_ANIMAL_MORE[fact]))
        else:
            animal = rng.choice(ANIMALS)
            turns.append(rng.choice(_ANOTHER_ANIMAL).format(article(animal.name)))
        turns.append(_animal_answer(animal, fact))
    return turns


def _in_order(rng: random.Random) -> _Turns:
    row, noun = rng.choice(((DAYS, "day"), (MONTHS, "month"), (PLANETS, "planet")))
    index = rng.randrange(len(row) - 1)
    first, second = row[index], row[index + 1]
    if rng.random() < 0.5:
        ask = rng.choice((f"Which {noun} comes after {first}?", f"What {noun} comes after {first}?"))
        return [ask, f"{second} comes after {first}."]
    ask = rng.choice((f"Which {noun} comes before {second}?", f"What {noun} comes before {second}?"))
    return [ask, f"{first} comes before {second}."]


def _opposite(rng: random.Random) -> _Turns:
    turns: _Turns = []
    asks = ("What is the opposite of {}?", "What's the opposite of {}?", "Tell me the opposite of {}.")
    for index in range(rng.choice((1, 1, 2, 3))):
        pair = rng.choice(OPPOSITES)
        word, other = pair if rng.random() < 0.5 else pair[::-1]
        turns.append(rng.choice(asks if index == 0 else ("And of {}?", "And {}?", *asks)).format(word))
        turns.append(f"The opposite of {word} is {other}.")
    return turns


def _colour(rng: random.Random) -> _Turns:
    thing, colour = rng.choice(tuple(COLOUR_OF.items()))
    ask = rng.choice(_COLOUR_ASKS)
    return [ask.format(thing), f"{_sentence(thing)} is {colour}."]


_ABOUT_ME: tuple[tuple[Sequence[str], tuple[str, ...], str, tuple[str, ...], str], ...] = (
    (
        NAMES,
        ("My name is {}.", "I am {}.", "I'm {}.", "Hi, I am {}.", "Hello, my name is {}!", "Call me {}."),
        "Nice to meet you, {}!",
        ("What is my name?", "Who am I?", "Do you remember my name?", "What's my name?", "What am I called?"),
        "Your name is {}.",
    ),
    (
        CITIES,
        ("I live in {}.", "My home is in {}.", "I am from {}."),
        "{} is a nice place to live.",
        ("Where do I live?", "Which city do I live in?", "Where is my home?", "Where am I from?"),
        "You live in {}.",
    ),
    (
        COLOURS,
        (
            "My favourite colour is {}.",
            "My favorite color is {}.",
            "I like the colour {} best.",
            "I love {}.",
        ),
        "I will remember that you like {}.",
        ("What is my favourite colour?", "What is my favorite color?", "Which colour do I like best?"),
        "Your favourite colour is {}.",
    ),
    (
        FOODS,
        ("I like {}.", "I love to eat {}.", "My favourite food is {}.", "My favorite food is {}."),
        "I hear that {} can be very good.",
        ("What do I like to eat?", "What is my favourite food?", "What food do I like?"),
        "You like {}.",
    ),
    (
        JOBS,
        ("I am a {} by trade.", "I work as a {}.", "My job is {}."),
        "A {} has a fine job.",
        ("What is my job?", "What do I do for work?", "What do I work as?"),
        "You work as a {}.",
    ),
)


def _about_me(rng: random.Random) -> _Turns:
    """The user tells one or more things of themselves and asks for them some turns later."""
    topics = rng.sample(_ABOUT_ME, rng.choice((1, 1, 2, 2, 3)))
    turns: _Turns = []
    questions: list[tuple[str, str]] = []
    for values, tells, reply, asks, answer in topics:
        value = rng.choice(values)
        if values is not COLOURS and rng.random() < 0.35:
            word = invent_word(rng)
            value = word.capitalize() if value[0].isupper() else word
        turns += [rng.choice(tells).format(value), _sentence(reply.format(value))]
        questions.append((rng.choice(asks), answer.format(value)))
    rng.shuffle(questions)
    for ask, answer in questions:
        if rng.random() < 0.2:
            turns += _in_order(rng)
        turns += [ask, answer]
    return turns


# Prompts that mean nothing without the turns before them.
_DEPENDENT = frozenset(
    ask
    for asks in (*_COUNTRY_MORE.values(), *_ANIMAL_MORE.values(), *(topic[3] for topic in _ABOUT_ME))
    for ask in asks
)

_TOPICS: tuple[tuple[float, Callable[[random.Random], _Turns]], ...] = (
    (0.40, _about_countries),
    (0.22, _about_animals),
    (0.06, _in_order),
    (0.06, _opposite),
    (0.05, _colour),
    (0.21, _about_me),
)


def make_question(rng: random.Random) -> Exchange:
    """Questions on one topic, one turn or several; every answer has one wording."""
    weights, topics = zip(*_TOPICS, strict=True)
    turns = rng.choices(topics, weights)[0](rng)
    keys = tuple(normalise(turn) for turn in turns[::2] if turn not in _DEPENDENT)
    typed = [vary(rng, turn) if index % 2 == 0 else turn for index, turn in enumerate(turns)]
    return Exchange("questions", keys, say(*typed), turns[-1])
