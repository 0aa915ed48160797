"""Topologies: files that say which weights are kept in which format.

::

    default: int4
    weights:
      - layers: 0-1, 14
        format: int8
      - match: "*.v_proj.weight"
        format: int8_g32

The first entry that fits a weight decides. ``layers`` are whole numbers and ranges with both ends, ``match``
a name of the checkpoint's, or a pattern of names (``*``, ``?``, ``[...]``); where both are given both must
fit. ``format`` and ``default`` are a format, a scheme, or ``none``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ..ir.errors import CompileError
from .assignment import Assignment, WeightUse, find_assignment

if TYPE_CHECKING:  # a file is read only where there is one
    import yaml

__all__ = ["Topology", "TopologyRule", "parse_topology", "print_topology", "read_topology"]

_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


@dataclass(frozen=True, slots=True)
class TopologyRule:
    """What some weights are kept in: those of ``layers``, and whose name ``pattern`` matches, if given.

    ``where`` says where the rule stands, for messages.
    """

    choice: Assignment | None
    layers: tuple[range, ...] = ()
    pattern: str | None = None
    where: str = "a rule"

    def fits(self, weight: WeightUse) -> bool:
        """Whether the rule is about ``weight``; raises :class:`CompileError` if about a part of it."""
        if self.layers and not any(weight.layer in layers for layers in self.layers):
            return False
        if self.pattern is None or fnmatchcase(weight.name, self.pattern):
            return True
        matched = [name for name in weight.tensors if fnmatchcase(name, self.pattern)]
        if matched and len(matched) != len(weight.tensors):
            raise CompileError(
                f"{self.where} is about {matched[0]}, but {len(weight.tensors)} tensors like it are one "
                "weight of the model, in one format: the pattern must match them all"
            )
        return bool(matched)

    def __str__(self) -> str:
        layers = ", ".join(f"{r.start}-{r.stop - 1}" for r in self.layers)
        parts = [f"layers {layers}" if layers else "", f"'{self.pattern}'" if self.pattern else ""]
        return " and ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Topology:
    """Rules of which the first that fits decides, and what holds where none does."""

    name: str
    rules: tuple[TopologyRule, ...]
    default: Assignment | None

    def format_for(self, weight: WeightUse) -> str | None:
        """See :class:`.assignment.Assignment`."""
        for rule in self.rules:
            if rule.fits(weight):
                return _choose(rule.choice, weight)
        return _choose(self.default, weight)

    def check(self, weights: Sequence[WeightUse]) -> None:
        """Raise :class:`CompileError` for a rule that is about none of ``weights``."""
        for rule in self.rules:
            if not any(rule.fits(weight) for weight in weights):
                examples = ", ".join(dict.fromkeys(weight.name for weight in weights[:3]))
                raise CompileError(
                    f"{rule.where}: no weight that can be quantized is of {rule}; there are {examples}, ..."
                )


def _choose(choice: Assignment | None, weight: WeightUse) -> str | None:
    return None if choice is None else choice.format_for(weight)


def read_topology(path: Path, *, default: str = "none") -> Topology:
    """The topology in a file; ``default`` holds where it has none.

    Raises :class:`CompileError` where the file cannot be read or is no topology, with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CompileError(f"the topology {path} cannot be read: {error}") from None
    return parse_topology(text, str(path), default=default)


def parse_topology(text: str, source: str, *, default: str = "none") -> Topology:
    """The topology in ``text``; ``source`` is what to call it where it is wrong."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise CompileError(f"the topology {source} is not YAML: {' '.join(str(error).split())}") from None
    reader = _Reader(source)
    fields = reader.fields(root, ("default", "weights"))
    rules = tuple(reader.rule(node) for node in reader.items(fields.get("weights")))
    chosen = fields.get("default")
    return Topology(
        "topology", rules, find_assignment(default) if chosen is None else reader.assignment(chosen)
    )


def print_topology(formats: Mapping[str, str | None]) -> str:
    """A topology's text that gives each weight, by name, its format; the commonest is the default."""
    names = [name or "none" for name in formats.values()]
    commonest = max(dict.fromkeys(names), key=names.count, default="none")
    lines = [f"default: {commonest}"]
    others = [(weight, name) for weight, name in zip(formats, names, strict=True) if name != commonest]
    if others:
        lines.append("weights:")
    for weight, name in others:
        lines += [f'  - match: "{_escaped(weight)}"', f"    format: {name}"]
    return "\n".join(lines) + "\n"


def _escaped(name: str) -> str:
    """A pattern that matches ``name`` alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


class _Reader:
    """Reads nodes of YAML, which know their lines."""

    def __init__(self, source: str) -> None:
        self._source = source

    def wrong(self, node: yaml.Node | None, message: str) -> CompileError:
        line = "" if node is None else f", line {node.start_mark.line + 1}"
        return CompileError(f"the topology {self._source}{line}: {message}")

    def fields(self, node: yaml.Node | None, known: Iterable[str]) -> dict[str, yaml.Node]:
        if node is None or node.id != "mapping":
            raise self.wrong(node, f"a mapping of {' and '.join(known)} is needed")
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.text(key)
            if name not in known:
                raise self.wrong(key, f"nothing is called '{name}' here; there are {', '.join(known)}")
            if name in fields:
                raise self.wrong(key, f"'{name}' was said before")
            fields[name] = value
        return fields

    def items(self, node: yaml.Node | None) -> list[yaml.Node]:
        if node is None:
            return []
        if node.id != "sequence":
            raise self.wrong(node, "'weights' must be a list")
        return list(node.value)

    def text(self, node: yaml.Node) -> str:
        if node.id != "scalar" or not node.value:
            raise self.wrong(node, "a word is needed")
        return str(node.value)

    def assignment(self, node: yaml.Node) -> Assignment | None:
        try:
            return find_assignment(self.text(node))
        except CompileError as error:
            raise self.wrong(node, str(error)) from None

    def rule(self, node: yaml.Node) -> TopologyRule:
        fields = self.fields(node, ("layers", "match", "format"))
        if "format" not in fields or len(fields) < 2:
            raise self.wrong(node, "an entry has a 'format', and 'layers' or 'match' or both")
        return TopologyRule(
            choice=self.assignment(fields["format"]),
            layers=self.layers(fields["layers"]) if "layers" in fields else (),
            pattern=self.text(fields["match"]) if "match" in fields else None,
            where=f"the topology {self._source}, line {node.start_mark.line + 1}",
        )

    def layers(self, node: yaml.Node) -> tuple[range, ...]:
        ranges = []
        parts = (
            [self.text(item) for item in node.value] if node.id == "sequence" else self.text(node).split(",")
        )
        for part in parts:
            found = _RANGE.fullmatch(part.strip())
            if found is None or int(found[2] or found[1]) < int(found[1]):
                raise self.wrong(node, f"'{part.strip()}' is no range of layers like 3 or 0-7")
            ranges.append(range(int(found[1]), int(found[2] or found[1]) + 1))
        return tuple(ranges)
