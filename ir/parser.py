"""Text to modules: a recursive descent over the tokens of the form that :mod:`.printer` describes.

``#`` starts a comment. What is read is well-formed text; whether the module keeps the rules of its stage is
:func:`~ingot.ir.verifier.verify`'s to say.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from .errors import IRError, ParseError
from .graph import Graph, Module, Operation, Value
from .operator import Attribute, find_operator
from .printer import NAME
from .types import Dim, TensorType, parse_element

__all__ = ["parse_module"]

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKENS = re.compile(
    rf"""
    (?P<blank>   (?: [ \t\r\n]+ | \#[^\n]* )+ )
  | (?P<value>   % (?: {_STRING} | {NAME.pattern} ) )
  | (?P<string>  {_STRING} )
  | (?P<number>  -? (?: \d+ (?:\.\d+)? (?:[eE][+-]?\d+)? | inf\b | nan\b ) )
  | (?P<word>    [A-Za-z_]\w* )
  | (?P<mark>    [()\[\]{{}},:=] )
    """,
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    offset: int


def parse_module(text: str) -> Module:
    """The module that ``text`` describes; raises :class:`ParseError` naming line and column."""
    parser = _Parser(text)
    parser.word("module")
    name = parser.string()
    parser.word("stage")
    stage = parser.take("word").text
    parser.word("prepare")
    prepare = parser.graph()
    parser.word("forward")
    forward = parser.graph()
    parser.take("end")
    return Module(name, stage, prepare, forward)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._next = 0
        self._values: dict[str, Value] = {}

    def _split(self) -> list[_Token]:
        tokens, offset = [], 0
        while offset < len(self._text):
            match = _TOKENS.match(self._text, offset)
            if match is None:
                self._fail(offset, f"no token starts with '{self._text[offset]}'")
            if match.lastgroup != "blank":
                tokens.append(_Token(str(match.lastgroup), match.group(), offset))
            offset = match.end()
        tokens.append(_Token("end", "the end of the text", offset))
        return tokens

    def _fail(self, offset: int, problem: str) -> NoReturn:
        line = self._text.count("\n", 0, offset) + 1
        column = offset - (self._text.rfind("\n", 0, offset) + 1) + 1
        raise ParseError(f"line {line}, column {column}: {problem}")

    # Tokens

    @property
    def _ahead(self) -> _Token:
        return self._tokens[self._next]

    def take(self, kind: str, text: str | None = None) -> _Token:
        token = self._ahead
        if token.kind != kind or (text is not None and token.text != text):
            wanted = (
                f"'{text}'"
                if text is not None
                else {"end": "the end", "mark": "a mark"}.get(kind, f"a {kind}")
            )
            self._fail(token.offset, f"{wanted} is expected, not '{token.text}'")
        self._next += 1
        return token

    def word(self, text: str) -> None:
        self.take("word", text)

    def string(self) -> str:
        return self._unquoted(self.take("string"), 0)

    def _unquoted(self, token: _Token, prefix: int) -> str:
        try:
            return str(json.loads(token.text[prefix:]))
        except json.JSONDecodeError as error:
            self._fail(token.offset + prefix, f"a string is malformed: {error.msg}")

    def _at(self, text: str) -> bool:
        return self._ahead.text == text and self._ahead.kind in ("mark", "word")

    def _more(self, closing: str) -> bool:
        """Whether a list goes on; takes the comma after an element, and the closing mark."""
        if self._at(","):
            self.take("mark", ",")
        elif not self._at(closing) and self._tokens[self._next - 1].text not in ("(", "["):
            self._fail(self._ahead.offset, f"',' or '{closing}' is expected, not '{self._ahead.text}'")
        if self._at(closing):
            self.take("mark", closing)
            return False
        return True

    # Types and values

    def _type(self) -> TensorType:
        token = self.take("word")
        shape = self._dims()
        try:
            return TensorType(shape, parse_element(token.text))
        except IRError as error:
            self._fail(token.offset, str(error))

    def _dims(self) -> tuple[Dim, ...]:
        self.take("mark", "[")
        dims: list[Dim] = []
        while self._more("]"):
            if self._ahead.kind == "number":
                dims.append(self._whole(self.take("number")))
            else:
                dims.append(self.take("word").text)
        return tuple(dims)

    def _whole(self, token: _Token) -> int:
        try:
            return int(token.text)
        except ValueError:
            self._fail(token.offset, f"a whole number is expected, not '{token.text}'")

    def _value_name(self, token: _Token) -> str:
        return self._unquoted(token, 1) if token.text.startswith('%"') else token.text[1:]

    def _definition(self) -> Value:
        token = self.take("value")
        name = self._value_name(token)
        if name in self._values:
            self._fail(token.offset, f"'{token.text}' is defined twice")
        self.take("mark", ":")
        value = Value(name, self._type())
        self._values[name] = value
        return value

    def _use(self) -> Value:
        token = self.take("value")
        try:
            return self._values[self._value_name(token)]
        except KeyError:
            self._fail(token.offset, f"'{token.text}' is not defined")

    # Graphs

    def graph(self) -> Graph:
        self._values = {}
        inputs = self._section("inputs")
        states = self._section("states")
        parameters = self._section("parameters")
        self.take("mark", "{")
        operations = []
        while not self._at("return"):
            operations.append(self._operation())
        self.word("return")
        outputs = []
        if not self._at("}"):
            outputs.append(self._use())
            while self._at(","):
                self.take("mark", ",")
                outputs.append(self._use())
        self.take("mark", "}")
        return Graph(inputs, states, parameters, tuple(operations), tuple(outputs))

    def _section(self, title: str) -> tuple[Value, ...]:
        if not self._at(title):
            return ()
        self.word(title)
        self.take("mark", "(")
        values = []
        while self._more(")"):
            values.append(self._definition())
        return tuple(values)

    def _operation(self) -> Operation:
        results = [self._definition()]
        while self._at(","):
            self.take("mark", ",")
            results.append(self._definition())
        self.take("mark", "=")
        token = self.take("word")
        try:
            find_operator(token.text)
        except IRError as error:
            self._fail(token.offset, str(error))
        self.take("mark", "(")
        operands: list[Value] = []
        attributes: dict[str, Attribute] = {}
        while self._more(")"):
            if self._ahead.kind == "value" and not attributes:
                operand = self._ahead
                operands.append(self._use())
                if operands[-1] in results:
                    self._fail(operand.offset, f"'{operand.text}' is not defined before its own operation")
                continue
            key = self.take("word")
            if key.text in attributes:
                self._fail(key.offset, f"attribute '{key.text}' is given twice")
            self.take("mark", "=")
            attributes[key.text] = self._attribute()
        return Operation(token.text, tuple(operands), tuple(results), MappingProxyType(attributes))

    def _attribute(self) -> Attribute:
        token = self._ahead
        if token.kind == "string":
            return self.string()
        if self._at("["):
            return self._dims()
        if token.kind == "number" or token.text in ("inf", "nan"):
            return self._number()
        if token.text in ("true", "false"):
            self.take("word")
            return token.text == "true"
        if token.kind != "word":
            self._fail(token.offset, f"an attribute's value is expected, not '{token.text}'")
        return self._array()

    def _number(self) -> int | float:
        token = self.take(self._ahead.kind)
        return int(token.text) if re.fullmatch(r"-?\d+", token.text) else float(token.text)

    def _array(self) -> npt.NDArray[np.generic]:
        start = self._ahead
        type_ = self._type()
        try:
            dtype = type_.scalar.numpy
            shape = tuple(dim for dim in type_.shape if isinstance(dim, int))
            if len(shape) != type_.rank:
                raise IRError(f"a constant's shape is of whole numbers, not {type_}")
            self.take("mark", "(")
            if self._ahead.kind == "string":
                data = base64.b64decode(self.string(), validate=True)
                self.take("mark", ")")
                flat = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)
            else:
                flat = np.array(list(iter(self._element, None)), dtype)
            array = flat.reshape(shape)
        except (IRError, ValueError, OverflowError, binascii.Error) as error:
            if isinstance(error, ParseError):
                raise
            self._fail(start.offset, f"{type_} is not what its elements make: {error}")
        array.flags.writeable = False
        return array

    def _element(self) -> int | float | None:
        if not self._more(")"):
            return None
        if self._ahead.kind != "number" and self._ahead.text not in ("inf", "nan"):
            self._fail(self._ahead.offset, f"a number is expected, not '{self._ahead.text}'")
        return self._number()
