"""Where in a traced model's source a value is computed that a pass or the lowering refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..ir import Module, Value
from ..ir.errors import CompileError, VerificationError

__all__ = ["Origins"]

_NAMED = re.compile(r"%([\w.+]*\w)")


class Origins:
    """Follows a module through the passes, and adds to errors where the values they name come from.

    A name means the same value as long as no pass dropped it: only then may another value get it.
    """

    def __init__(self, module: Module, origins: Mapping[str, str]) -> None:
        self._values: Mapping[str, Value] = {}
        self._origins = origins
        self.follow(module)

    def follow(self, module: Module) -> None:
        """Take note of what a pass made."""
        self._module = module
        self._values = {value.name: value for value in module.forward.producers}
        self._origins = {name: where for name, where in self._origins.items() if name in self._values}

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Errors raised within name operator, module and line of the model's source, where known."""
        try:
            yield
        except (CompileError, VerificationError) as error:
            names = dict.fromkeys(_NAMED.findall(str(error)))
            found = {name: where for name in names if (where := self._find(name)) is not None}
            if not found:
                raise
            places = "; ".join(f"%{name} comes from {where}" for name, where in found.items())
            raise type(error)(f"{error}; {places}") from error

    def _find(self, name: str) -> str | None:
        """Where the value of a name is from, or what is nearest of that it is computed from."""
        if name in self._origins or name not in self._values:
            return self._origins.get(name)
        producers = self._module.forward.producers
        seen = {self._values[name]: None}
        queue = list(seen)
        for value in queue:
            if value.name in self._origins:
                return self._origins[value.name]
            operands = producers[value].operands if value in producers else ()
            queue.extend(operand for operand in dict.fromkeys(operands) if operand not in seen)
            seen.update(dict.fromkeys(operands))
        return None
