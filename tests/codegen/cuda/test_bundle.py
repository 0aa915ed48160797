"""What ``tests/gpu/pack.py`` packs and ``tests/gpu/run`` runs, on the emulation: small, but all of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ingot
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ...gpu.pack import build_family, build_shape, build_vector_models, compress
from ...tiny_models import WHOLE_GROUPS, make_tiny
from .emulated import needs_compiler

GPU = Path(__file__).parents[2] / "gpu"


@pytest.mark.slow
@needs_compiler
def test_all_parts_run_and_what_fails_hinders_no_other(gpu: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (folder / "exact").mkdir(parents=True)
    shutil.copy(GPU / "run", folder / "run")
    shutil.copytree(GPU / "parts", folder / "parts")
    build_family(folder / "exact" / "llama.ingot", "cuda:sm_90", {"architecture": "llama"})
    build_vector_models(folder / "exact", "cuda:sm_90", match="distilbert")
    for kind in ("ingot", "scores"):
        shutil.copytree(folder / "exact" / f"llama.{kind}", folder / "exact" / f"broken.{kind}")
    shutil.copy(folder / "exact" / "llama.json", folder / "exact" / "broken.json")
    (folder / "exact" / "broken.ingot" / "lib" / "cuda-sm_90.json").write_text("nothing")
    compress(folder / "exact")
    tiny = make_tiny("llama", tmp_path, max_position_embeddings=128, **WHOLE_GROUPS)
    build_shape(folder / "shapes", tiny, "cuda:sm_90", kinds=("int8",))
    driver = tmp_path / "driver"
    driver.mkdir()
    shutil.copy(gpu, driver / "libcuda.so.1")
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(driver),
        "PYTHONPATH": str(Path(ingot.__file__).parents[1]),
    }
    command = [sys.executable, str(folder / "run"), "--dry", "--out", str(tmp_path / "results.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found = json.loads((tmp_path / "results.json").read_text())
    assert done.returncode == 1, done.stderr
    assert found["device"]["gpu"]["name"] == "Emulated GPU"
    assert found["exact"]["llama"]["passed"], found["exact"]
    assert found["exact"]["llama"]["drawn_alike"] == 1.0
    assert found["exact"]["vectors-distilbert"]["passed"], found["exact"]
    assert "truncated" in " ".join(found["exact"]["broken"]["said"])
    assert found["limits"]["torch"]["copy_gb_s"] > 0
    (speed,) = found["speed"].values()
    assert speed["host"]["gpu"] == "Emulated GPU", speed
    assert [run["concurrency"] for run in speed["runs"]] == [1, 2]
    (transformers,) = found["transformers"].values()
    assert "decode_tok_s" in transformers["runs"][0], transformers
    (llama_cpp,) = found["llama.cpp"].values()
    assert "there is neither llama-batched-bench nor a source" in " ".join(llama_cpp["said"])
    table = (tmp_path / "results.md").read_text()
    assert "Exactness: 2 of 3" in table
    assert "| ingot int8 |" in table
