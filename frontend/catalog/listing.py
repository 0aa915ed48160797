"""Every model that is known, with what was measured of it, whichever frontend takes it in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from ...ir.errors import ModelError
from ..registry import registered_families
from .checked import Checked, CheckedArchitecture, CheckedFamily

__all__ = ["FamilyLine", "Listing", "list_models"]


@dataclass(frozen=True, slots=True)
class FamilyLine:
    """A family that is defined here."""

    model_type: str
    architectures: tuple[str, ...]
    checked: CheckedFamily


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is to tell.

    Attributes:
        transformers: the version of ``transformers`` that models were compared with.
        families: those defined here.
        traced: model types of ``transformers`` that no family here is of.
    """

    transformers: str
    families: tuple[FamilyLine, ...]
    traced: Mapping[str, CheckedArchitecture]


def list_models(checked: Checked, name: str | None = None) -> Listing:
    """All models, or those that have ``name`` in their model type or in the name of an architecture.

    Raises:
        ModelError: there is none.
    """
    registered = registered_families()
    defined = {family.model_type for family in registered}
    families = tuple(
        FamilyLine(
            family.model_type,
            family.architectures,
            checked.families.get(family.model_type, CheckedFamily()),
        )
        for family in registered
        if _is_asked(name, family.model_type, *family.architectures)
    )
    traced = {
        model_type: found
        for model_type, found in sorted(checked.architectures.items())
        if model_type not in defined and _is_asked(name, model_type)
    }
    if not families and not traced:
        raise ModelError(_unknown(str(name), defined | checked.architectures.keys()))
    return Listing(checked.transformers, families, traced)


def _is_asked(name: str | None, *candidates: str) -> bool:
    return name is None or any(name.lower() in candidate.lower() for candidate in candidates)


def _unknown(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name.lower(), sorted(known), n=4, cutoff=0.5)
    like = f"; there are {', '.join(close)}" if close else "; 'ingot models' lists all"
    return f"no model type or architecture with '{name}' in its name was tried{like}"
