"""Everything that ``tests/gpu/run`` takes to a machine with a GPU and no network, in one folder.

    python tests/gpu/pack.py FOLDER [--python 3.12] [--target cuda:sm_90] [--shape HF_FOLDER ...]
                                    [--match TEXT] [--llama-cpp FOLDER]

- ``wheels``: ingot, and what its runtime needs but for TVM, which GPUs do without, and numpy and torch, which
  are there;
- ``exact``: tinychat for the target in several kinds, and a tiny random model of each family that CUDA runs,
  each with log-probabilities, or vectors, that were computed here: of tinychat by the reference interpreter,
  of the others by ``transformers`` where nothing is rounded, else by the same artifact on this machine's CPU;
- ``shapes``: artifacts of the models given, without their weights: only speed is measured on them, so that
  ``run`` makes random ones;
- ``llama.cpp``: a build of it with CUDA, or its source, where it is given.

Prints how large it became; it should stay under 60 MiB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TINYCHAT = ROOT / "examples" / "tinychat" / "model"
KINDS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quant": "int8"},
    "int4": {"quant": "int4"},
}
EXACT = {"max_abs_diff": 1e-4}
ROUNDED = {"median_diff": 5e-3, "max_abs_diff": 0.2}
"""Of log-probabilities; where rows become codes or bfloat16, a value between two can become either."""

TINYCHAT_LIMITS = {
    "float32": EXACT,
    "bfloat16": {"kl_mean": 1e-3},
    "int8": {"kl_mean": 0.03},
    "int4": {"kl_mean": 0.03},
}
PACKED_KINDS = ("float32", "bfloat16", "int4")
"""Of tinychat; the tiny families have int8, and room is scarce."""

SPEED_KINDS = ("bfloat16", "int4")
WITHOUT = ("apache-tvm", "apache-tvm-ffi", "numpy", "torch", "huggingface_hub")
NEEDED_BY_OTHERS = ("annotated-types", "anyio", "click", "fastapi", "h11", "idna", "jinja2", "markdown-it-py")
NEEDED_BY_OTHERS += (
    "gguf",
    "markupsafe",
    "mdurl",
    "pydantic",
    "pydantic-core",
    "pygments",
    "starlette",
    "typing-extensions",
)
NOT_BUILT = {"docs", "examples", "tests", "media", "models", "gguf-py", "benches", "pocs", ".git"}
"""Folders at the top of llama.cpp's source that its benchmark is built without."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="the other machine's Python; none: no wheels")
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--shape", type=Path, action="append", default=[], help="a shape to time")
    parser.add_argument("--match", default="", help="families whose names hold this")
    parser.add_argument("--llama-cpp", type=Path, help="a build of llama.cpp with CUDA, or its source")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True)
    here = Path(__file__).parent
    shutil.copy(here / "run", folder / "run")
    shutil.copytree(here / "parts", folder / "parts", ignore=shutil.ignore_patterns("__pycache__"))
    if options.python != "none":
        collect_wheels(folder / "wheels", options.python)
    (folder / "exact").mkdir()
    build_tinychat(folder / "exact", options.target)
    build_families(folder / "exact", options.target, options.match)
    build_vector_models(folder / "exact", options.target, options.match)
    for shape in options.shape:
        build_shape(folder / "shapes", shape, options.target)
    if options.llama_cpp is not None:
        copy_llama_cpp(options.llama_cpp, folder / "llama.cpp")
    for name in ("exact", "shapes", "llama.cpp"):
        compress(folder / name)
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {num_bytes / 2**20:.1f} MiB")


def copy_llama_cpp(source: Path, target: Path) -> None:
    """A build, or a source without what is large and not needed."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        at_top = NOT_BUILT & set(names) if Path(folder) == source else set[str]()
        return at_top | {name for name in names if name in ("public", "webui") or name.endswith(".gguf")}

    shutil.copytree(source, target, ignore=left_out)


def compress(folder: Path) -> None:
    """Put a folder's archive in its place: kernels' text is a tenth of its size then."""
    if folder.is_dir():
        with tarfile.open(folder.with_name(f"{folder.name}.tar.xz"), "w:xz") as archive:
            archive.add(folder, folder.name)
        shutil.rmtree(folder)


def collect_wheels(folder: Path, python: str) -> None:
    """Wheels for Linux on x86-64."""
    sys.path.insert(0, str(ROOT))
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [name for name in project["dependencies"] if not name.startswith(WITHOUT)]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    platforms = [f"--platform=manylinux_2_{version}_x86_64" for version in (5, 12, 17, 24, 27, 28, 31, 34)]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux2010_x86_64"]
    download = [*pip, "download", "-q", "--no-deps", "--only-binary=:all:", f"--python-version={python}"]
    subprocess.run([*download, *platforms, "-d", str(folder), *needed, *NEEDED_BY_OTHERS], check=True)


def build_tinychat(folder: Path, target: str) -> None:
    """tinychat in several kinds, and what the reference makes of a text."""
    from ingot.codegen import compile_model

    scores = write_reference(folder)
    for name in PACKED_KINDS:
        path = folder / f"tinychat-{name}.ingot"
        compile_model(TINYCHAT, path, targets=[target], **KINDS[name])
        describe(path, scores.name, "interpreter", TINYCHAT_LIMITS[name])


def write_reference(folder: Path) -> Path:
    """The log-probabilities that the reference interpreter gives a text, in a folder below."""
    import numpy as np
    from ingot.codegen.calibrating import read_windows
    from ingot.frontend import load_model
    from ingot.passes import PipelineOptions, fusing_passes, run_passes
    from ingot.passes.calibration import cut_layers, score
    from ingot.targets.recorded_scores import write_scores
    from ingot.targets.sample_text import DEFAULT_TEXT

    with tempfile.TemporaryDirectory() as name:
        text = Path(name) / "text.txt"
        text.write_text(DEFAULT_TEXT, encoding="utf-8")
        windows = read_windows(text, TINYCHAT, window_tokens=192, most_tokens=384)
    model = load_model(TINYCHAT)
    module = run_passes(model.module, fusing_passes(PipelineOptions(max_seq_len=model.max_seq_len))).module
    scores = score(module, cut_layers(module), model.weights.read, windows)
    write_scores(folder / "scores", [np.asarray(window, np.int32) for window in windows], scores)
    return folder / "scores"


def build_families(folder: Path, target: str, match: str) -> None:
    """Tiny random models of the families that the emulation runs, with the settings that its tests have."""
    sys.path.insert(0, str(ROOT))
    from tests.codegen.cuda.test_models import FEW, MORE

    for name, options in {**FEW, **MORE}.items():
        if match not in name:
            continue
        try:
            build_family(folder / f"{name.replace(' ', '-').replace(',', '')}.ingot", target, options)
        except Exception as error:  # one that cannot be built keeps the others from nothing
            print(f"{name} is left out: {type(error).__name__}: {error}", file=sys.stderr)


def build_family(path: Path, target: str, options: dict[str, Any]) -> None:
    """One of them; its model's own options and the compiler's stand side by side."""
    import numpy as np
    from ingot.codegen import compile_model
    from ingot.runtime.engine.engine import Engine
    from ingot.targets.recorded_scores import write_scores

    from tests.codegen.cuda.test_models import MODEL_OPTIONS
    from tests.tiny_models import make_tiny, reference_log_probs

    model = {key: value for key, value in options.items() if key in MODEL_OPTIONS}
    settings = {key: value for key, value in options.items() if key not in {*MODEL_OPTIONS, "num_tokens"}}
    settings = {"dtype": "float32", **settings}
    windows = tokens_for(path.stem)
    with tempfile.TemporaryDirectory() as name:
        checkpoint = make_tiny(model.pop("architecture"), Path(name), **model)
        both = compile_model(checkpoint, Path(name) / "both.ingot", targets=["cpu", target], **settings).path
        is_exact = settings == {"dtype": "float32"}
        if is_exact:
            scores = [reference_log_probs(checkpoint, window) for window in windows]
        else:
            with Engine(both, device="cpu", kv_memory="16MiB") as engine:
                scores = [engine.score(window) for window in windows]
        shutil.copytree(both, path)
    arrays = [np.asarray(window, np.int32) for window in windows]
    recorded = path.with_suffix(".scores")
    write_scores(recorded, arrays, scores)
    describe(path, recorded.name, *(("transformers", EXACT) if is_exact else ("cpu", ROUNDED)))


def build_vector_models(folder: Path, target: str, match: str) -> None:
    """Tiny random models that give vectors, and what ``transformers`` gives."""
    import numpy as np
    from ingot.codegen import compile_model

    from tests.codegen.cuda.test_vector_models import EXACT as MODELS
    from tests.codegen.cuda.test_vector_models import SEQUENCES
    from tests.vector_models import make_embedder

    for label, model in MODELS.items():
        name = f"vectors-{label.replace(', ', '-').replace(' ', '-')}"
        if match not in name:
            continue
        path = folder / f"{name}.ingot"
        with tempfile.TemporaryDirectory() as parent:
            embedder = make_embedder(**model, parent=Path(parent))
            compile_model(embedder.folder, path, targets=[target], dtype="float32")
            recorded = path.with_suffix(".npz")
            tokens = {f"tokens{number}": np.array(one) for number, one in enumerate(SEQUENCES)}
            np.savez(recorded, vectors=embedder.reference(SEQUENCES), **tokens)
        describe(path, recorded.name, "transformers", EXACT)


def tokens_for(name: str) -> list[list[int]]:
    """Windows of random tokens: a long one, which takes several steps, and short ones."""
    import numpy as np

    random = np.random.default_rng(sum(name.encode()))
    return [random.integers(3, 290, length).tolist() for length in (90, 33, 5)]


def describe(path: Path, scores: str, reference: str, limits: Mapping[str, float]) -> None:
    """Say beside an artifact what it is compared with, and how near it must be."""
    about = {"scores": scores, "reference": reference, "limits": limits}
    path.with_suffix(".json").write_text(json.dumps(about) + "\n")


def build_shape(folder: Path, model: Path, target: str, kinds: Sequence[str] = SPEED_KINDS) -> None:
    """Artifacts of a model without their weights, and its config."""
    from ingot.codegen import compile_model

    folder.mkdir(exist_ok=True)
    for kind in kinds:
        path = folder / f"{model.name}-{kind}.ingot"
        compile_model(model, path, targets=[target], max_seq_len=8192, **KINDS[kind])
        (path / "params" / "weights.bin").unlink()
    shutil.copyfile(model / "config.json", folder / f"{model.name}.json")


if __name__ == "__main__":
    main()
