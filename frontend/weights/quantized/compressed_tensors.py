"""Matrices of ``compressed-tensors``, the format of llm-compressor and vLLM: which is laid out how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...configs import Fields
from .compressed_layouts import LAYOUTS, Scheme
from .matrix import StoredMatrix, StoredTensors, matches

__all__ = ["find_matrices"]

_WITHOUT_CODES = ("dense", "fakequant")
_MIXED = "mixed-precision"
_TABLES = ("embed_tokens", "wte", "word_embeddings", "embed_in")
"""Names of modules that are look-up tables; a checkpoint does not say of which class a module is."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Modules that one scheme is for: by name, by ``re:`` and a pattern, or by the class they are of."""

    targets: tuple[str, ...]
    scheme: Scheme


def find_matrices(config: Fields, tensors: StoredTensors) -> Iterator[StoredMatrix]:
    """Every matrix of a checkpoint, as the group that its module belongs to lays it out.

    What rows are rounded to (``input_activations``) and the cache (``kv_cache_scheme``) is left to those who
    compile: the matrices do not depend on it.
    """
    _refuse_unsupported(config)
    groups = tuple(_groups(config))
    for module in dict.fromkeys(
        module for part in ("weight_packed", "weight_scale") for module in tensors.modules_with(part)
    ):
        scheme = _scheme_of(module, groups, config)
        yield LAYOUTS[scheme.layout](tensors, module, scheme)


def _refuse_unsupported(config: Fields) -> None:
    """Raise for what changes what matrices mean."""
    sparsity = config.object("sparsity_config")
    if sparsity is not None and (kind := sparsity.text("format", "dense")) != "dense":
        raise sparsity.refuse(f"format '{kind}' is not supported; give a checkpoint that is not sparse")
    transforms = config.object("transform_config")
    if transforms is not None and transforms.object("config_groups") is not None:
        raise transforms.refuse("rotated weights are not supported; give a checkpoint without transforms")


def _groups(config: Fields) -> Iterator[_Group]:
    named = config.object("config_groups")
    whole = config.text("format", _MIXED)
    for name, values in {} if named is None else named.values.items():
        if not isinstance(values, Mapping):
            raise config.refuse(f"group '{name}' must be an object, not {values!r}")
        fields = Fields(values, f"{config.where}, {name}")
        layout = fields.text("format", whole)
        weights = fields.object("weights")
        if weights is None or layout in _WITHOUT_CODES:
            continue
        if layout not in LAYOUTS:
            raise fields.refuse(f"format '{layout}' is not supported; supported are {', '.join(LAYOUTS)}")
        yield _Group(fields.texts("targets") or (), Scheme.read(layout, weights))


def _scheme_of(module: str, groups: tuple[_Group, ...], config: Fields) -> Scheme:
    """The scheme of a module: of the group that has its name, else a pattern that fits, else a class."""

    def by_name(target: str) -> bool:
        return target == module

    def by_pattern(target: str) -> bool:
        return target.startswith("re:") and matches(target.removeprefix("re:"), module, config)

    def by_class(target: str) -> bool:
        return target == ("Embedding" if module.endswith(_TABLES) else "Linear")

    def by_any_class(target: str) -> bool:
        return target.isidentifier()

    for fits in (by_name, by_pattern, by_class, by_any_class):
        for group in groups:
            if any(map(fits, group.targets)):
                return group.scheme
    raise config.refuse(f"'config_groups' have none for the quantized module '{module}'")
