"""What ``ingot models`` tells was measured by these tests, of the families that there are."""

from __future__ import annotations

import pytest
from ingot.frontend.catalog import read_checked
from ingot.frontend.catalog.checked import CHECKED, TOLERANCE
from ingot.frontend.registry import registered_families

from . import test_reference, test_vectors
from .checked import PAGE
from .page import page_of

HOW = "fill it in: pytest tests/exactness -k 'log_prob or vectors_are' -m 'slow or not slow' --update-checked"


@pytest.fixture(scope="module")
def cases() -> dict[str, set[str]]:
    """The settings that tests have of each model type."""
    found: dict[str, set[str]] = {}
    for label, case in test_reference.CASES.items():
        found.setdefault(case.architecture, set()).add(label)
    for label, vectors in test_vectors.CASES.items():
        found.setdefault(vectors.architecture, set()).add(f"vectors: {label}")
    return found


def test_every_family_was_checked_and_no_other() -> None:
    registered = {family.model_type for family in registered_families()}
    checked = read_checked().families
    assert registered - {name for name, family in checked.items() if family.native} == set(), HOW
    assert checked.keys() - registered == set(), f"{CHECKED.name} has families that are not registered"


def test_every_setting_is_one_that_tests_have(cases: dict[str, set[str]]) -> None:
    for model_type, family in read_checked().families.items():
        settings = family.native.keys() | family.export.keys()
        assert settings <= cases[model_type], f"{model_type} has changed; {HOW}"


def test_everything_that_is_told_is_within_the_tolerance() -> None:
    for model_type, family in read_checked().families.items():
        found = [*family.native.values(), *family.export.values()]
        assert all(isinstance(one, str) or one <= TOLERANCE for one in found), model_type


def test_the_page_is_made_of_what_was_checked() -> None:
    assert PAGE.read_text() == page_of(read_checked()), f"{PAGE.name} is not to be written by hand"
