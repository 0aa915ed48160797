"""Greetings, who tinychat is, and an honest answer to what it cannot do."""

from __future__ import annotations

import random

from .exchange import Exchange, invent_word, say, vary
from .facts import CITIES, FOODS, THINGS

__all__ = ["make_smalltalk"]

_WHO = "I am tinychat, a small language model trained as the demo of ingot."
_CAN = (
    "I can tell short stories, add numbers below 100, answer simple questions, answer as JSON and call tools."
)
_UNKNOWN = (
    "I am only a tiny model and I do not know that. Ask me for a story, a sum or the capital of a country!"
)
_TOO_BIG = "I only learned to add two numbers below 100."

_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "Hi",
            "Hi!",
            "Hello",
            "Hello!",
            "Hey",
            "Hey!",
            "Hi there!",
            "Hello there!",
            "Good morning!",
            "Good evening!",
        ),
        ("Hello! What can I do for you?", "Hello! How can I help you?", "Hi! How can I help you?"),
    ),
    (
        (
            "Who are you?",
            "What are you?",
            "What is your name?",
            "What's your name?",
            "Tell me about yourself.",
        ),
        (_WHO,),
    ),
    (
        (
            "Introduce yourself.",
            "Are you a robot?",
            "Are you human?",
            "Are you ChatGPT?",
            "Which model are you?",
        ),
        (_WHO,),
    ),
    (
        (
            "What can you do?",
            "Help",
            "What can I ask you?",
            "How can you help me?",
            "What do you know?",
            "Help me",
        ),
        (_CAN,),
    ),
    (
        (
            "How are you?",
            "How are you doing?",
            "How do you do?",
            "What's up?",
            "Are you well?",
            "How is it going?",
        ),
        ("I am fine, thank you! How can I help you?",),
    ),
    (
        (
            "Thanks!",
            "Thank you!",
            "Thank you very much.",
            "Great, thanks.",
            "Nice!",
            "Cool!",
            "Well done!",
            "Good job!",
        ),
        ("You are welcome!",),
    ),
    (
        ("Bye!", "Goodbye!", "See you later!", "Good night!", "Bye bye", "See you!"),
        ("Goodbye! See you soon.",),
    ),
    (
        (
            "Who made you?",
            "Who built you?",
            "Who trained you?",
            "Where do you come from?",
            "Who created you?",
        ),
        ("I was trained by a small script in the ingot repository.",),
    ),
    (
        (
            "How big are you?",
            "How many parameters do you have?",
            "How large are you?",
            "Are you a large model?",
        ),
        ("I am very small: I have only a few million parameters.",),
    ),
    (
        (
            "What is ingot?",
            "What does ingot do?",
            "Tell me about ingot.",
            "Explain ingot.",
            "Do you know ingot?",
        ),
        ("ingot is a compiler for generative models. It turns a model into an artifact that runs fast.",),
    ),
    (
        ("Test", "test", "Testing", "ok", "Yes", "No", "Hmm", "What?", "...", "Ping"),
        ("I am here! Ask me for a story, a sum or the capital of a country.",),
    ),
    (
        ("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Tell a joke", "Say something funny."),
        ("Why did the mouse sit on the clock? It wanted to be on time!",),
    ),
    (
        ("Say hello.", "Say hello!", "Say hi.", "Greet me."),
        ("Hello!",),
    ),
    (
        ("Count to five.", "Count from one to five.", "Can you count to five?"),
        ("One, two, three, four, five.",),
    ),
)

_BEYOND = (
    "What is the meaning of life?",
    "Write a Python program that sorts a list.",
    "Write a function to reverse a string.",
    "Explain quantum physics.",
    "Explain how {thing}s are made.",
    "Who won the world cup in 2014?",
    "Who is the president of {word}?",
    "How do I cook {food}?",
    "Give me a recipe for {food}.",
    "What is {word}?",
    "What is the capital of {word}?",
    "Who was {word}?",
    "What does {word} mean?",
    "Why is the {thing} so important?",
    "Write an essay about {word}.",
    "Write a poem about {city}.",
    "How far is {city} from the moon?",
    "What is the history of {city}?",
    "What should I do in {city}?",
    "What is the best {thing} to buy?",
    "How does a {thing} work?",
    "What is the square root of {number}?",
    "When was {word} born?",
    "Fix this code: {word}({number})",
    "What happened in the year {number}?",
    "What do you think about {word}?",
    "Summarize the book {word}.",
)


def _beyond(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.3:
        a, b = rng.randrange(100, 2000), rng.randrange(10, 2000)
        sign = rng.choice(("+", "plus"))
        return rng.choice(("What is {} {} {}?", "{} {} {}", "Compute {} {} {}.")).format(a, sign, b), _TOO_BIG
    if rng.random() < 0.25:
        a, b = rng.randrange(2, 100), rng.randrange(2, 100)
        sign = rng.choice(("-", "*", "/", "times", "minus", "divided by", "x"))
        return rng.choice(("What is {} {} {}?", "{} {} {}", "Compute {} {} {}.")).format(a, sign, b), _TOO_BIG
    word = invent_word(rng)
    prompt = rng.choice(_BEYOND).format(
        thing=rng.choice(THINGS),
        word=word.capitalize() if rng.random() < 0.5 else word,
        food=rng.choice(FOODS),
        city=rng.choice(CITIES),
        number=rng.randrange(3, 2030),
    )
    return prompt, _UNKNOWN


def make_smalltalk(rng: random.Random) -> Exchange:
    """A greeting, a question about tinychat itself, or one beyond it. Never held back."""
    if rng.random() < 0.35:
        prompt, answer = _beyond(rng)
    else:
        asks, answers = rng.choice(_TALK)
        prompt, answer = rng.choice(asks), rng.choice(answers)
    return Exchange("smalltalk", (), say(vary(rng, prompt), answer), answer)
