"""Everything that ``tests/gpu/run`` takes to a machine with a GPU and no network, in one folder.

    python tests/gpu/pack.py FOLDER [--python 3.12] [--target cuda:sm_90] [--model HF_FOLDER ...]

- ``wheels``: ingot, and what its runtime needs but for TVM, which GPUs do without, and numpy and torch, which
  are there;
- ``exact``: tinychat for the target, unquantized and quantized, and log-probabilities of a text that the
  reference interpreter computed here;
- ``shapes``: artifacts of the models given, without their weights: only speed is measured on them, so
  ``run`` makes random ones.

Prints how large it became; it should stay under 60 MiB.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINYCHAT = ROOT / "examples" / "tinychat" / "model"
KINDS = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quant": "int8"},
    "int4": {"quant": "int4"},
}
SPEED_KINDS = ("bfloat16", "int4")
WITHOUT = ("apache-tvm", "apache-tvm-ffi", "numpy", "torch", "huggingface_hub")
NEEDED_BY_OTHERS = ("annotated-types", "anyio", "click", "fastapi", "h11", "idna", "jinja2", "markdown-it-py")
NEEDED_BY_OTHERS += (
    "markupsafe",
    "mdurl",
    "pydantic",
    "pydantic-core",
    "pygments",
    "starlette",
    "typing-extensions",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="the other machine's Python")
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a shape to time")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("run"), folder / "run")
    (folder / "run").chmod(0o755)
    collect_wheels(folder / "wheels", options.python)
    build_exact(folder / "exact", options.target)
    for model in options.model:
        build_shape(folder / "shapes", model, options.target)
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {num_bytes / 2**20:.1f} MiB")


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


def build_exact(folder: Path, target: str) -> None:
    """tinychat in every kind, and what the reference makes of a text."""
    from ingot.codegen import compile_model

    folder.mkdir()
    for name, settings in KINDS.items():
        compile_model(TINYCHAT, folder / f"{name}.ingot", targets=[target], **settings)  # type: ignore[arg-type]
    write_reference(folder)


def write_reference(folder: Path) -> Path:
    """The log-probabilities that the reference interpreter gives a text, in a folder below."""
    import numpy as np
    from ingot.codegen.calibrating import read_windows
    from ingot.frontend import load_model
    from ingot.passes import PipelineOptions, fusing_passes, run_passes
    from ingot.passes.calibration import cut_layers, score
    from ingot.targets.recorded_scores import write_scores
    from ingot.targets.sample_text import DEFAULT_TEXT

    text = folder / "text.txt"
    text.write_text(DEFAULT_TEXT, encoding="utf-8")
    windows = read_windows(text, TINYCHAT, window_tokens=192, most_tokens=384)
    model = load_model(TINYCHAT)
    module = run_passes(model.module, fusing_passes(PipelineOptions(max_seq_len=model.max_seq_len))).module
    scores = score(module, cut_layers(module), model.weights.read, windows)
    write_scores(folder / "scores", [np.asarray(window, np.int32) for window in windows], scores)
    return folder / "scores"


def build_shape(folder: Path, model: Path, target: str) -> None:
    """Artifacts of a model without their weights, and its config."""
    from ingot.codegen import compile_model

    folder.mkdir(exist_ok=True)
    for kind in SPEED_KINDS:
        path = folder / f"{model.name}-{kind}.ingot"
        compile_model(model, path, targets=[target], max_seq_len=8192, **KINDS[kind])  # type: ignore[arg-type]
        (path / "params" / "weights.bin").unlink()
    shutil.copyfile(model / "config.json", folder / f"{model.name}.json")


if __name__ == "__main__":
    main()
