"""Tool calls: a set of tools, a request that needs one of them, its result and the answer.

Names, descriptions and parameters of the tools change from conversation to conversation, so that
what must be called can only be read from the tools that were given.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .exchange import Exchange, Message, invent_word, normalise, vary
from .facts import CITIES, FOODS, NAMES, THINGS
from .sums import sum_key

__all__ = ["Tool", "draw_tools", "make_call"]

_Schema = dict[str, object]


@dataclass(frozen=True)
class _Request:
    """What the user says, the arguments that follow from it, the tool's result and the answer to it."""

    prompt: str
    arguments: dict[str, object]
    result: dict[str, object]
    answer: str
    key: str = ""


@dataclass(frozen=True)
class Tool:
    """One tool as offered in a conversation: its schema, and how to draw a request that needs it."""

    schema: _Schema
    draw_request: Callable[[random.Random], _Request]


def _schema(name: str, description: str, properties: dict[str, _Schema], required: Sequence[str]) -> _Schema:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _property(rng: random.Random, kind: str, description: str) -> _Schema:
    """A parameter's schema; half of the tools one meets describe their parameters."""
    return {"type": kind, "description": description} if rng.random() < 0.5 else {"type": kind}


def _city(rng: random.Random) -> str:
    return invent_word(rng).capitalize() if rng.random() < 0.25 else rng.choice(CITIES)


def _weather(rng: random.Random) -> Tool:
    names = (
        "get_weather",
        "get_weather",
        "get_current_weather",
        "weather",
        "weather_lookup",
        "fetch_weather",
    )
    name, place = rng.choice(names), rng.choice(("city", "city", "location", "location", "place", "town"))
    has_unit = rng.random() < 0.35
    texts = (
        "Get the current weather in a city.",
        "Get the weather",
        "The weather of a place",
        "Current weather",
    )
    properties = {place: _property(rng, "string", rng.choice(("The city", "Name of the city", "The place")))}
    if has_unit:
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}

    def request(rng: random.Random) -> _Request:
        city, degrees = _city(rng), rng.randrange(-9, 38)
        sky = rng.choice(("sunny", "cloudy", "rainy", "windy", "foggy", "clear"))
        asks = (
            "What is the weather in {}?",
            "What's the weather in {}?",
            "What's the weather like in {}?",
            "How is the weather in {}?",
            "How is the weather in {} today?",
            "Tell me the weather in {}.",
            "Is it raining in {}?",
            "Is it warm in {}?",
            "How warm is it in {}?",
            "weather in {}",
            "What is the temperature in {}?",
            "Do I need an umbrella in {}?",
        )
        arguments: dict[str, object] = {place: city}
        prompt = rng.choice(asks).format(city)
        if has_unit and rng.random() < 0.6:
            unit = rng.choice(("celsius", "fahrenheit"))
            arguments["unit"] = unit
            prompt = prompt.rstrip("?.") + f" in {unit}?"
        answer = f"It is {degrees} degrees and {sky} in {city}."
        temperature = rng.choice(("temperature", "temperature", "temp", "degrees"))
        condition = rng.choice(("condition", "conditions", "sky", "weather"))
        return _Request(prompt, arguments, {temperature: degrees, condition: sky}, answer)

    return Tool(_schema(name, rng.choice(texts), properties, [place]), request)


def _time(rng: random.Random) -> Tool:
    name, place = (
        rng.choice(("get_time", "current_time", "time_in", "get_current_time")),
        rng.choice(("city", "place")),
    )
    texts = ("Get the current time in a city.", "Get the time", "What time it is in a place")
    properties = {place: _property(rng, "string", rng.choice(("The city", "Name of the city")))}

    def request(rng: random.Random) -> _Request:
        city, time = _city(rng), f"{rng.randrange(24):02}:{rng.randrange(60):02}"
        asks = ("What time is it in {}?", "What is the time in {}?", "Tell me the time in {}.", "time in {}")
        return _Request(
            rng.choice(asks).format(city), {place: city}, {"time": time}, f"It is {time} in {city}."
        )

    return Tool(_schema(name, rng.choice(texts), properties, [place]), request)


def _add(rng: random.Random) -> Tool:
    name = rng.choice(("add", "add", "add_numbers", "sum", "sum_numbers", "calculate_sum"))
    first, second = rng.choice((("a", "b"), ("a", "b"), ("x", "y"), ("first", "second")))
    kind = rng.choice(("integer", "number"))
    texts = ("Add two numbers.", "Add two numbers", "Returns the sum of two numbers")
    properties = {
        key: _property(rng, kind, text) for key, text in ((first, "First number"), (second, "Second number"))
    }

    def request(rng: random.Random) -> _Request:
        top = rng.choice((100, 100, 1000, 10000))
        a, b = rng.randrange(10, top), rng.randrange(10, top)
        asks = (
            "What is {} + {}?",
            "What is {} plus {}?",
            "Add {} and {}.",
            "Compute {} + {}.",
            "How much is {} + {}?",
        )
        prompt = rng.choice(asks).format(a, b)
        result: dict[str, object] = {"result": a + b}
        return _Request(prompt, {first: a, second: b}, result, f"{a} + {b} = {a + b}.", sum_key(a, b))

    return Tool(_schema(name, rng.choice(texts), properties, [first, second]), request)


def _phrase(rng: random.Random) -> str:
    words = (
        rng.choice((rng.choice(THINGS), rng.choice(FOODS), invent_word(rng)))
        for _ in range(rng.choice((1, 1, 2)))
    )
    return " ".join(words)


def _search(rng: random.Random) -> Tool:
    name, query = (
        rng.choice(("search", "web_search", "search_web", "lookup")),
        rng.choice(("query", "query", "q", "text")),
    )
    texts = ("Search the web.", "Search the web", "Find pages on the internet")
    properties = {query: _property(rng, "string", rng.choice(("What to search for", "The search query")))}

    def request(rng: random.Random) -> _Request:
        words = _phrase(rng)
        asks = (
            "Search the web for {}.",
            "Search for {}.",
            "Look up {}.",
            "Find pages about {}.",
            "Google {}.",
        )
        found = rng.choice(("The best {}", "All about {}", "{} for beginners", "{} explained")).format(words)
        return _Request(
            rng.choice(asks).format(words), {query: words}, {"title": found}, f"I found this: {found}."
        )

    return Tool(_schema(name, rng.choice(texts), properties, [query]), request)


def _timer(rng: random.Random) -> Tool:
    name = rng.choice(("set_timer", "start_timer", "timer"))
    minutes = rng.choice(("minutes", "minutes", "duration", "duration_minutes"))
    texts = ("Set a timer.", "Start a timer for some minutes", "Set a kitchen timer")
    properties = {minutes: _property(rng, "integer", rng.choice(("Minutes", "How many minutes")))}

    def request(rng: random.Random) -> _Request:
        count = rng.randrange(2, 100)
        asks = (
            "Set a timer for {} minutes.",
            "Start a timer for {} minutes.",
            "Timer for {} minutes.",
            "{} minute timer.",
        )
        result = rng.choice(({"ok": True}, {"status": "ok"}, {"started": True}))
        answer = f"The timer is set for {count} minutes."
        return _Request(rng.choice(asks).format(count), {minutes: count}, dict(result), answer)

    return Tool(_schema(name, rng.choice(texts), properties, [minutes]), request)


def _message(rng: random.Random) -> Tool:
    name, to = (
        rng.choice(("send_message", "send_message", "send_text", "message")),
        rng.choice(("to", "recipient", "name")),
    )
    body = rng.choice(("text", "message", "body"))
    texts = ("Send a message to somebody.", "Send a text message", "Sends a message")
    properties = {to: _property(rng, "string", "Who gets it"), body: _property(rng, "string", "What to say")}

    def request(rng: random.Random) -> _Request:
        person = invent_word(rng).capitalize() if rng.random() < 0.4 else rng.choice(NAMES)
        text = rng.choice(
            ("I am late", "hello", "see you soon", "dinner is ready", "happy birthday", "call me")
        )
        text = f"bring the {_phrase(rng)}" if rng.random() < 0.5 else text
        asks = (
            "Send a message to {} saying {}.",
            "Tell {} this: {}.",
            "Write to {}: {}.",
            "Send {} the message {}.",
        )
        result: dict[str, object] = {"sent": True}
        prompt = rng.choice(asks).format(person, text)
        return _Request(prompt, {to: person, body: text}, result, f"I sent the message to {person}.")

    return Tool(_schema(name, rng.choice(texts), properties, [to, body]), request)


def _light(rng: random.Random) -> Tool:
    name, on = rng.choice(("set_light", "switch_light", "light")), rng.choice(("on", "on", "state"))
    texts = ("Switch a light on or off.", "Control the light of a room", "Turn lights on and off")
    properties = {"room": _property(rng, "string", "The room"), on: _property(rng, "boolean", "On or off")}

    def request(rng: random.Random) -> _Request:
        room = rng.choice(("kitchen", "bedroom", "hall", "bathroom", "office", "garage", "cellar", "garden"))
        state = rng.random() < 0.5
        word = "on" if state else "off"
        asks = (
            "Turn {} the light in the {}.",
            "Switch {} the {} light.",
            "Turn {} the {} light.",
            "Lights {} in the {}.",
        )
        result: dict[str, object] = {"ok": True}
        prompt = rng.choice(asks).format(word, room)
        return _Request(prompt, {"room": room, on: state}, result, f"The light in the {room} is {word}.")

    return Tool(_schema(name, rng.choice(texts), properties, ["room", on]), request)


def _any_verb(rng: random.Random) -> Tool:
    """A tool made up on the spot: nothing about it can be known in advance."""
    verb = rng.choice(
        ("find", "get", "open", "delete", "show", "book", "order", "buy", "check", "start", "stop", "play")
    )
    nouns = (
        "recipe",
        "file",
        "song",
        "ticket",
        "hotel",
        "report",
        "picture",
        "game",
        "train",
        "user",
        "document",
        "stock",
    )
    noun = rng.choice((*nouns, invent_word(rng)))
    key = rng.choice(("name", "title", "id", "item", noun, f"{noun}_name"))
    kind = "integer" if key == "id" else "string"
    text = rng.choice(
        (f"{verb.capitalize()} a {noun}.", f"{verb.capitalize()} the {noun}", f"{verb}s a {noun}")
    )
    properties = {key: _property(rng, kind, rng.choice((f"The {noun}", f"Which {noun}", "Name")))}

    def request(rng: random.Random) -> _Request:
        value = rng.randrange(1, 1000) if kind == "integer" else _phrase(rng)
        asks = ("{verb} the {noun} {value}.", "{verb} {noun} {value}.", "I want to {low} the {noun} {value}.")
        prompt = rng.choice(asks).format(verb=verb.capitalize(), low=verb, noun=noun, value=value)
        result = dict(rng.choice(({"ok": True}, {"status": "ok"}, {"done": True})))
        return _Request(prompt, {key: value}, result, f"It is done: {verb} {noun} {value}.")

    return Tool(_schema(f"{verb}_{noun}", text, properties, [key]), request)


_FAMILIES = (_weather, _time, _add, _search, _timer, _message, _light, _any_verb, _any_verb)


def draw_tools(rng: random.Random) -> list[Tool]:
    """One to three different tools, as they would be offered in one conversation."""
    families = rng.sample(_FAMILIES, rng.choice((1, 1, 1, 2, 2, 3)))
    tools = {str(tool.schema["function"]): tool for tool in (family(rng) for family in families)}
    return list(tools.values())


def make_call(rng: random.Random, tools: Sequence[Tool]) -> Exchange:
    """A request that needs one of the tools; mostly its result and the answer follow."""
    tool = rng.choice(tools)
    request = tool.draw_request(rng)
    function = tool.schema["function"]
    if not isinstance(function, dict):
        raise TypeError(f"the schema of a tool holds a function object, not {function!r}")
    call = {"name": function["name"], "arguments": request.arguments}
    messages: list[Message] = [
        {"role": "user", "content": vary(rng, request.prompt)},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
    ]
    if rng.random() < 0.7:
        messages.append({"role": "tool", "content": json.dumps(request.result, ensure_ascii=False)})
        messages.append({"role": "assistant", "content": request.answer})
    return Exchange("tools", (request.key or normalise(request.prompt),), tuple(messages), call)
