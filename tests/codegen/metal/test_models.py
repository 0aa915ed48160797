"""Whole models, planned for Metal and run by emulated shaders, next to the same models on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ..cuda.emulated import needs_compiler
from ..cuda.test_models import FEW, MORE, check

pytestmark = needs_compiler


@pytest.mark.parametrize("name", FEW)
def test_shaders_compute_what_the_cpu_does(name: str, shaders: Path, tmp_path: Path) -> None:
    check(FEW[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_so_they_do_with_other_families_and_types(name: str, shaders: Path, tmp_path: Path) -> None:
    check(MORE[name], tmp_path)
