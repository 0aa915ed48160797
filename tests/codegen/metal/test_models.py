"""Whole models, planned for Metal and run by emulated shaders, next to the same models on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ..cuda.emulated import needs_compiler
from ..cuda.test_models import FEW, MORE, check

pytestmark = needs_compiler

FIRST = "llama in int8, float16 pages"


def test_shaders_compute_what_the_cpu_does(gpu: Path, tmp_path: Path) -> None:
    check(FEW[FIRST], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in {**FEW, **MORE} if name != FIRST])
def test_so_they_do_with_other_families_and_types(name: str, gpu: Path, tmp_path: Path) -> None:
    check({**FEW, **MORE}[name], tmp_path)
