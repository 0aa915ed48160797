"""Whole models, compiled for Metal and run as on a Mac, next to the same models on the CPU.

So artifact, host library, calls of Metal, and shaders are what they are there; the processors alone are not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ..cuda.emulated import needs_compiler
from ..cuda.test_models import FEW, MORE, check
from ..cuda.test_vector_models import EXACT, check_exactly
from .host.mac import Mac

pytestmark = needs_compiler

FIRST = "llama in int8, float16 pages"


def test_a_mac_computes_what_the_cpu_does(mac_target: Mac, tmp_path: Path) -> None:
    shared, launches = mac_target.count("shared"), mac_target.count("launches")
    check(FEW[FIRST], tmp_path, target="metal")
    assert mac_target.count("shared") > shared
    assert mac_target.count("launches") > launches


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in {**FEW, **MORE} if name != FIRST])
def test_so_it_does_with_other_families_and_types(name: str, mac_target: Mac, tmp_path: Path) -> None:
    check({**FEW, **MORE}[name], tmp_path, target="metal")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_vectors_are_those_of_the_reference(name: str, mac_target: Mac, tmp_path: Path) -> None:
    check_exactly(EXACT[name], tmp_path, target="metal")
