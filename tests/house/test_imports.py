"""Who imports whom, and what a start costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .tree import ROOT

_COMPILER = ("ingot.frontend", "ingot.passes", "ingot.codegen")
_HEAVY = ("torch", "transformers", "tvm", "fastapi", "huggingface_hub")


def _imported(code: str, among: tuple[str, ...]) -> list[str]:
    """Those of the modules that a new process has after ``code``."""
    report = f"import sys\n{code}\nprint(*(name for name in {among} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return done.stderr.split()


def test_the_import_rules_hold() -> None:
    lint = "import sys; from importlinter.cli import lint_imports_command as lint; sys.exit(lint())"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_importing_ingot_imports_nothing() -> None:
    assert _imported("import ingot", (*_COMPILER, *_HEAVY, "ingot.runtime", "numpy", "click")) == []


@pytest.mark.parametrize(
    "code",
    [
        "import ingot; ingot.SamplingParams",
        "import ingot; ingot.Engine; ingot.AsyncEngine",
        "import ingot.runtime.commands.run, ingot.runtime.commands.serve, ingot.runtime.commands.inspect",
        "from ingot.__main__ import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_starting_the_runtime_imports_nothing_of_the_compiler_and_nothing_heavy(code: str) -> None:
    assert _imported(code, (*_COMPILER, *_HEAVY)) == []


def test_running_kernels_imports_neither_tvm_nor_torch() -> None:
    code = "import numpy as np; from ingot.runtime.execution.tvm_library import copied; copied(np.zeros(3))"
    assert _imported(code, (*_COMPILER, *_HEAVY)) == []


def test_asking_for_help_imports_no_command() -> None:
    code = "from ingot.__main__ import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert _imported(code, ("ingot.codegen", "ingot.runtime", "numpy", "rich")) == []


def test_compiling_needs_neither_torch_nor_transformers() -> None:
    assert _imported("import ingot; ingot.compile", ("torch", "transformers", "ingot.runtime")) == []
