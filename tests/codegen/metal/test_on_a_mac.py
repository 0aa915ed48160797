"""What is tested by emulated shaders, by those of a Mac: ``make test PYTEST_ARGS="-m metal"``.

``host/test_on_a_mac.py`` comes first: it needs neither torch nor a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ..cuda.test_models import FEW, MORE, check
from ..cuda.test_vector_models import EXACT, check_exactly
from . import running
from .host.mac_gpu import MacGpu
from .test_attention import *  # noqa: F403
from .test_products import *  # noqa: F403

pytestmark = [pytest.mark.metal, pytest.mark.usefixtures("on_a_mac")]


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(running, "machine", MacGpu)
    yield
    while MacGpu.opened:
        MacGpu.opened.pop().close()


@pytest.mark.parametrize("name", [*FEW, *MORE])
def test_models_compute_what_the_cpu_does(name: str, tmp_path: Path) -> None:
    check({**FEW, **MORE}[name], tmp_path, target="metal")


@pytest.mark.parametrize("name", EXACT)
def test_vectors_are_those_of_the_reference(name: str, tmp_path: Path) -> None:
    check_exactly(EXACT[name], tmp_path, target="metal")
