"""Sums of two numbers below one hundred."""

from __future__ import annotations

import random

from .exchange import Exchange, say, vary

__all__ = ["draw_pair", "make_sum", "sum_key"]

_PROMPTS = (
    "What is {a} + {b}?",
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "What's {a} + {b}?",
    "What's {a} plus {b}?",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
    "Add {a} and {b}.",
    "Add {b} to {a}.",
    "Calculate {a} + {b}.",
    "Compute {a} + {b}.",
    "Compute the sum of {a} and {b}.",
    "What is the sum of {a} and {b}?",
    "Can you add {a} and {b}?",
    "Can you tell me what {a} + {b} is?",
    "Tell me {a} + {b}.",
    "What do you get when you add {a} and {b}?",
    "What does {a} + {b} equal?",
    "{a} + {b}",
    "{a} + {b} = ?",
    "{a} + {b} =",
    "{a}+{b}",
    "{a}+{b}=",
    "{a} plus {b}?",
    "What is {a}+{b}?",
    "Solve {a} + {b}.",
    "I have {a} apples and get {b} more. How many are there?",
    "If I have {a} coins and find {b} more, how many do I have?",
)

_FOLLOW_UPS = ("And {a} + {b}?", "And {a} plus {b}?", "Now {a} + {b}.", "What about {a} + {b}?", "{a} + {b}?")


def draw_pair(rng: random.Random) -> tuple[int, int]:
    """Two numbers, nearly always of two digits each."""
    if rng.random() < 0.08:
        return rng.randrange(100), rng.randrange(10)
    return rng.randrange(10, 100), rng.randrange(10, 100)


def sum_key(a: int, b: int) -> str:
    """The key of a sum; the order of the numbers does not matter."""
    return f"{min(a, b)}+{max(a, b)}"


def make_sum(rng: random.Random, *, follow_up: bool = False) -> Exchange:
    """One sum, asked in one of many ways and always answered in one."""
    a, b = draw_pair(rng)
    prompt = rng.choice(_FOLLOW_UPS if follow_up else _PROMPTS).format(a=a, b=b)
    answer = f"{a} + {b} = {a + b}."
    return Exchange("sums", (sum_key(a, b),), say(vary(rng, prompt), answer), answer)
