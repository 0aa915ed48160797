"""What Metal's language has not, or has as words of its own, looked for in the text of shaders."""

from __future__ import annotations

import re
from collections import Counter

_BANNED = {
    r"\blong long\b": "there is no long long; int64 is there",
    r"\bdouble\b": "there is no double",
    r"(?<![\w.])(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])": "there is no double, so a float ends with f",
    r"\[[&=]\]|\[\]\s*\(": "there are no lambdas",
    r"\b(?:virtual|throw|try|catch|goto|new|delete|noexcept|register)\b": "it is left out",
    r"\b(?:dynamic_cast|typeid|asm)\b": "it is left out",
    r"(?<!enum )\b(?:struct|class)\s+\w+(?:<[^{};]*>)?\s*:(?!:)": "there are no derived classes",
    r"\bauto\s*[&*]": "a reference or pointer says what address space it is to",
    r"#\s*include\s*<(?!metal_)": "there is no library but Metal's",
}
_WORDS = "device|constant|threadgroup|thread|kernel|vertex|fragment|object|mesh|sampler|bfloat|visible"
_NAME_OF_A_WORD = re.compile(rf"(?:[\w>*&]\s+|\.|->)({_WORDS}|intersection|half)\s*(?:[=;,)\[]|\(\))")
_CONSTANT = re.compile(r"^ *(?:static )?(?:inline )?const(?:expr)? \w+ (\w+) = ", re.MULTILINE)
_FUNCTION = re.compile(r"INGOT_DEVICE [\w:<>,&* ()]*?\b(\w+)\(")


def lint(text: str) -> list[str]:
    """Sentences on what Metal's compiler would refuse, or would not run."""
    text = re.sub(r"//[^\n]*", "", text)
    found = [
        f"{match[0]!r}: {reason}"
        for pattern, reason in _BANNED.items()
        for match in re.finditer(pattern, text)
    ]
    found += [f"{match[1]!r} is a word of the language" for match in _NAME_OF_A_WORD.finditer(text)]
    found += [
        f"{match[1]}: constants of a program or class lie in the constant address space (CONSTANT)"
        for match in _CONSTANT.finditer(_outside_functions(text))
    ]
    functions = Counter(match[1] for match in _FUNCTION.finditer(text))
    for match in _FUNCTION.finditer(text):
        name, body = match[1], _body(text, match.end())
        is_one = functions[name] == 1  # of several with a name, one may call another
        if is_one and body is not None and re.search(rf"(?<![.\w:>]){name}\s*(?:<[^;{{}}]*>)?\(", body):
            found.append(f"{name} calls itself, which Metal does not run")
        if body is not None and "SHARED_ARRAY" in body:
            found.append(f"{name}: only kernels declare what a threadgroup shares")
    return found


def _outside_functions(text: str) -> str:
    """A text without what is in the braces of functions; those of namespaces and classes stay."""
    kept, stack, start = [], [False], 0
    for match in re.finditer(r"[{}]", text):
        if match[0] == "{":
            head = re.split(r"[;{}]", text[start : match.start()])[-1]
            is_function = stack[-1] or not re.search(r"\b(?:namespace|struct|class|enum)\b[^()]*$", head)
            if is_function and not stack[-1]:
                kept.append(text[start : match.end()])
            stack.append(is_function)
        elif len(stack) > 1 and stack.pop() and not stack[-1]:
            start = match.start()
    return "".join([*kept, text[start:]])


def _body(text: str, place: int) -> str | None:
    """What is in the braces of a function whose parameters begin at a place."""
    depth = 1
    while depth and place < len(text):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        place += 1
    start = re.compile(r"\s*(?:const\s*)?\{").match(text, place)
    if start is None:
        return None
    end, depth = start.end(), 1
    while depth and end < len(text):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return text[start.end() : end - 1]
