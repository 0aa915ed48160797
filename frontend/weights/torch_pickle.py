"""What the pickle in a PyTorch checkpoint says, found out without running any of it.

A pickle is a program that may call whatever Python can import. Here its instructions are read one by one
(:mod:`pickletools` takes them apart) by a machine that knows dictionaries, lists, numbers and texts, and of
calls just those that make tensors, of which it only takes note. Everything else is refused by name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .safetensors_file import can_be_shape

__all__ = ["PickledTensor", "Unpickled", "UnpicklingError", "read_pickle"]

_STORAGES: Mapping[str, str] = MappingProxyType(
    {
        "DoubleStorage": "F64",
        "FloatStorage": "F32",
        "HalfStorage": "F16",
        "BFloat16Storage": "BF16",
        "LongStorage": "I64",
        "IntStorage": "I32",
        "ShortStorage": "I16",
        "CharStorage": "I8",
        "ByteStorage": "U8",
        "BoolStorage": "BOOL",
    }
)
"""Types of elements, in the words of safetensors, by the classes of ``torch``."""

_LONGEST_REASON = 200
"""Characters of what a file says that go into a message."""

_REBUILD = ("torch._utils", "_rebuild_tensor_v2")
_PARAMETERS = (("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"))
_ORDERED = ("collections", "OrderedDict")


class UnpicklingError(Exception):
    """Why a pickle is not read; the message goes on from the file's name."""


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A tensor: which storage it lies in, from which element on, and how."""

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Global:
    """Something that could be imported, by name."""

    module: str
    name: str

    @property
    def path(self) -> tuple[str, str]:
        return self.module, self.name


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a collection's elements begin on the stack."""


Unpickled = object
"""What a pickle holds: dictionaries, lists, tuples, texts, numbers, and :class:`PickledTensor`."""


def read_pickle(data: bytes) -> Unpickled:
    """What a pickle says.

    Raises:
        UnpicklingError: it is malformed, or asks for more than tensors in dictionaries.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        reason = str(error)[:_LONGEST_REASON] or type(error).__name__
        raise UnpicklingError(f"holds a malformed pickle ({reason})") from error
    raise UnpicklingError("holds a pickle without an end")


class _Machine:
    """A stack of values, and a memory of those that are used again."""

    def __init__(self) -> None:
        self._stack: list[object] = []
        self._memory: dict[int, object] = {}

    def result(self) -> object:
        """What is left when the program ends."""
        (value,) = self._stack
        return value

    def step(self, name: str, argument: object) -> None:
        """Do what an instruction says."""
        if name in _PUSHES_ARGUMENT:
            self._stack.append(argument)
        elif name in _PUSHES:
            self._stack.append(_PUSHES[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _WITHOUT_EFFECT:
            raise UnpicklingError(f"holds a pickle with the instruction {name}, which no checkpoint needs")

    def _since_mark(self) -> list[object]:
        stack = self._stack
        for at in range(len(stack) - 1, -1, -1):
            if isinstance(stack[at], _Mark):
                values = stack[at + 1 :]
                del stack[at:]
                return values
        raise ValueError("a mark is missing")

    def _tuple(self, argument: object) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _last(self, count: int) -> None:
        values = tuple(self._stack[-count:])
        if len(values) != count:
            raise ValueError("the stack is empty")
        del self._stack[-count:]
        self._stack.append(values)

    def _remember(self, argument: object) -> None:
        number = len(self._memory) if argument is None else argument
        assert isinstance(number, int)
        self._memory[number] = self._stack[-1]

    def _recall(self, argument: object) -> None:
        assert isinstance(argument, int)
        self._stack.append(self._memory[argument])

    def _append(self, values: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ValueError("what is appended to is no list")
        target.extend(values)

    def _set(self, values: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("what is set is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Keys of other types may take forever to compare.
            if not isinstance(key, str | int):
                raise ValueError("a dictionary's key is neither text nor a number")
            target[key] = value

    def _global(self, argument: object) -> None:
        assert isinstance(argument, str)
        module, _, name = argument.partition(" ")
        self._stack.append(_Global(module, name))

    def _stack_global(self, argument: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a name is no text")
        self._stack.append(_Global(module, name))

    def _storage(self, argument: object) -> None:
        match self._stack.pop():
            case ("storage", _Global("torch", kind), str(key), *_) if kind in _STORAGES:
                self._stack.append(_Storage(key, _STORAGES[kind]))
            case ("storage", _Global() as found, *_):
                name = ".".join(found.path)[:_LONGEST_REASON]
                raise UnpicklingError(f"holds tensors of {name}, which are not supported")
            case _:
                raise ValueError("what is stored outside the pickle is no storage")

    def _call(self, argument: object) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("what is called is no function")
        self._stack.append(_called(function, arguments))

    def _build(self, argument: object) -> None:
        """Attributes of a dictionary, such as the versions of modules, are left out."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict):
            raise ValueError("what has attributes is no dictionary")


def _called(function: _Global, arguments: tuple[object, ...]) -> object:
    """What a call would give, where it is one of the few that are known."""
    path = function.path
    if path == _ORDERED and not arguments:
        return {}
    if path in _PARAMETERS and arguments and isinstance(arguments[0], PickledTensor):
        return arguments[0]
    if path == _REBUILD:
        match arguments:
            case (_Storage(key, dtype), int(offset), tuple(shape), tuple(strides), *_) if (
                len(shape) == len(strides) and can_be_shape(shape) and can_be_shape((offset, *strides))
            ):
                return PickledTensor(key, dtype, offset, shape, strides)
        raise ValueError("a tensor's parts are malformed")
    name = ".".join(path)[:_LONGEST_REASON]
    raise UnpicklingError(
        f"would call {name} when it is unpickled; nothing is run here, and weights need no such call"
    )


_WITHOUT_EFFECT = frozenset({"PROTO", "FRAME"})

_PUSHES_ARGUMENT = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING"),
        *("STRING",),
    }
)

_PUSHES: Mapping[str, Callable[[], object]] = MappingProxyType(
    {
        "NONE": lambda: None,
        "NEWTRUE": lambda: True,
        "NEWFALSE": lambda: False,
        "EMPTY_DICT": dict,
        "EMPTY_LIST": list,
        "EMPTY_TUPLE": tuple,
        "MARK": _Mark,
    }
)

_STEPS: Mapping[str, Callable[[_Machine, object], None]] = MappingProxyType(
    {
        "TUPLE": _Machine._tuple,
        "TUPLE1": lambda machine, _: machine._last(1),
        "TUPLE2": lambda machine, _: machine._last(2),
        "TUPLE3": lambda machine, _: machine._last(3),
        "PUT": _Machine._remember,
        "BINPUT": _Machine._remember,
        "LONG_BINPUT": _Machine._remember,
        "MEMOIZE": _Machine._remember,
        "GET": _Machine._recall,
        "BINGET": _Machine._recall,
        "LONG_BINGET": _Machine._recall,
        "APPEND": lambda machine, _: machine._append([machine._stack.pop()]),
        "APPENDS": lambda machine, _: machine._append(machine._since_mark()),
        "SETITEM": lambda machine, _: machine._set([machine._stack.pop(-2), machine._stack.pop()]),
        "SETITEMS": lambda machine, _: machine._set(machine._since_mark()),
        "GLOBAL": _Machine._global,
        "STACK_GLOBAL": _Machine._stack_global,
        "BINPERSID": _Machine._storage,
        "REDUCE": _Machine._call,
        "BUILD": _Machine._build,
    }
)
