"""On a machine with a GPU: tinychat compiled for it, next to the reference. See ``run`` for speed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.runtime.verification.judging import judge
from ingot.targets import find_gpus

from .pack import KINDS, TINYCHAT, TINYCHAT_LIMITS, write_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not find_gpus(), reason="there is no NVIDIA GPU"),
]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference(tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_is_as_near_to_the_reference_as_the_kind_allows(
    kind: str, scores: Path, tmp_path: Path
) -> None:
    artifact = compile_model(TINYCHAT, tmp_path / "a.ingot", targets=["cuda"], **KINDS[kind])
    found = judge(artifact.path, scores)
    for name, limit in TINYCHAT_LIMITS[kind].items():
        assert getattr(found, name) < limit
