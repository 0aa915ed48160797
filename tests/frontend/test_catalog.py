"""``ingot models``: families, what is traced, and what was measured of each."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from ingot.frontend.catalog import Checked, CheckedArchitecture, CheckedFamily
from ingot.frontend.catalog.listing import list_models
from ingot.frontend.commands import models_command
from ingot.frontend.registry import registered_families, supported_architectures
from ingot.ir.errors import ModelError

CHECKED = Checked(
    transformers="5.0",
    families={
        "llama": CheckedFamily(
            layers=("attention",), native={"plain": 2e-6, "tied": 3e-6}, export={"plain": 4e-6, "tied": "no"}
        )
    },
    architectures={
        "gpt2": CheckedArchitecture(interpreted=1e-6, compiled=2e-6),
        "llama": CheckedArchitecture(interpreted=1e-6, compiled=2e-6),
        "mamba": CheckedArchitecture(why="aten.scan: has no plain operator", has_states=True),
    },
)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr("ingot.frontend.catalog.read_checked", lambda: CHECKED)

    def models(*arguments: str) -> Result:
        result = CliRunner().invoke(models_command, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        return result

    return models


def test_families_are_by_model_type() -> None:
    families = {family.model_type: family.architectures for family in registered_families()}
    assert families["bert"] == ("BertModel", "BertForSequenceClassification")
    assert sorted(name for names in families.values() for name in names) == sorted(supported_architectures())


def test_all_are_listed_within_the_width(ask: Callable[..., Result]) -> None:
    printed = ask().stdout
    rows = [line.split() for line in printed.splitlines()]
    assert ["llama", "attention", "3.0e-06", "(2)", "4.0e-06", "(1)"] in rows
    assert "1 further model types" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())


def test_a_name_tells_each_setting_and_why_not(ask: Callable[..., Result]) -> None:
    told = ask("llama").stdout
    assert "LlamaForCausalLM; defined here" in told
    assert ["tied", "3.0e-06", "no"] in [line.split() for line in told.splitlines()]
    assert "aten.scan: has no plain operator" in " ".join(ask("MAMBA").stdout.split())


def test_the_document_has_all_of_it(ask: Callable[..., Result]) -> None:
    document = json.loads(ask("--json").stdout)
    assert document["transformers"] == "5.0"
    llama = next(family for family in document["families"] if family["model_type"] == "llama")
    assert llama["native"] == {"largest_difference": 3e-6, "settings": {"plain": 2e-6, "tied": 3e-6}}
    assert [(found["model_type"], found["matches"]) for found in document["traced"]] == [
        ("gpt2", True),
        ("mamba", False),
    ]
    assert json.loads(ask("gpt", "--json").stdout)["traced"][0]["compiled"] == 2e-6


def test_a_name_that_is_not_there_gets_those_like_it() -> None:
    with pytest.raises(ModelError, match=r"'mambo' in its name was tried; there are mamba"):
        list_models(CHECKED, "mambo")
