"""Writes what was measured into the package's ``checked.json``, of which ``ingot models`` tells.

``docs/architectures.md`` is made of the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import msgspec
from ingot.frontend.catalog import Checked, CheckedArchitecture, CheckedFamily, read_checked
from ingot.frontend.catalog.checked import CHECKED
from ingot.ir import Module

from .page import page_of

__all__ = ["PAGE", "Findings", "layer_kinds", "update_architectures", "update_families"]

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"

_ABSOLUTE = re.compile(r"(?<!\S)/\S*/")
"""The folders of an absolute path, which are of no interest elsewhere."""

_KINDS = {
    "paged_attention": "attention",
    "ragged_attention": "attention",
    "paged_latent_attention": "latent attention",
    "paged_conv": "convolution",
    "paged_scan": "selective scan",
    "paged_delta": "delta rule",
    "expert_linear": "experts",
}


@dataclass
class Findings:
    """What a run of the tests found of one family.

    Attributes:
        layers: kinds of layers, in the order in which they were met.
        settings: for each frontend and setting a difference, or why there is none.
    """

    layers: list[str] = field(default_factory=list)
    settings: dict[str, dict[str, float | str]] = field(default_factory=lambda: {"native": {}, "export": {}})

    def add(self, frontend: str, setting: str, found: float | str, layers: tuple[str, ...] = ()) -> None:
        """Take note of a setting. Layers are those of the definition, not what tracing makes of them."""
        noted = _ABSOLUTE.sub("", found) if isinstance(found, str) else _rounded(found)
        self.settings[frontend][setting] = noted
        if frontend == "native":
            self.layers += [kind for kind in layers if kind not in self.layers]


def layer_kinds(module: Module) -> tuple[str, ...]:
    """The kinds of layers of a model as it is run, in words; windows and soft caps are settings of them."""
    kinds: dict[str, None] = {}
    for operation in module.forward.operations:
        name = operation.operator
        if name in _KINDS:
            kinds[_KINDS[name]] = None
        elif name.startswith("paged_"):
            kinds[name.removeprefix("paged_").replace("_", " ")] = None
        if operation.attributes.get("window"):
            kinds["windows"] = None
    return tuple(kinds)


def update_families(found: Mapping[str, Findings]) -> None:
    """Put ``found`` in the place of what stood there for the same families and frontends."""
    checked = _read()
    families = dict(checked.families)
    for model_type, findings in found.items():
        before = families.get(model_type, CheckedFamily())
        families[model_type] = CheckedFamily(
            layers=tuple(findings.layers) or before.layers,
            native=findings.settings["native"] or before.native,
            export=findings.settings["export"] or before.export,
        )
    _write(msgspec.structs.replace(checked, families=families))


def update_architectures(found: Mapping[str, CheckedArchitecture]) -> None:
    """Put ``found`` in the place of what stood there for the same model types."""
    rounded = {
        model_type: msgspec.structs.replace(
            one, interpreted=_rounded(one.interpreted), compiled=_rounded(one.compiled)
        )
        for model_type, one in found.items()
    }
    checked = _read()
    _write(msgspec.structs.replace(checked, architectures={**checked.architectures, **rounded}))


def _read() -> Checked:
    return read_checked() if CHECKED.exists() else Checked(transformers="")


def _write(checked: Checked) -> None:
    """Sorted by model type, settings as the tests have them; one line each, so that differences read well."""
    document = msgspec.structs.replace(
        checked,
        transformers=version("transformers"),
        families=dict(sorted(checked.families.items())),
        architectures=dict(sorted(checked.architectures.items())),
    )
    CHECKED.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    PAGE.write_text(page_of(document))


def _rounded(difference: float | None) -> float | None:
    """Two digits: further ones change from machine to machine."""
    return None if difference is None else float(f"{difference:.1e}")
