"""The package as it lies in the repository, whose root it is."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DATA_FILES", "ROOMS", "ROOT", "package_files"]

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("ir", "targets", "frontend", "passes", "codegen", "runtime")
DATA_FILES = (
    Path("frontend/catalog/checked.json"),
    *(path.relative_to(ROOT) for path in sorted(ROOT.glob("codegen/*/sources/*"))),
    *(path.relative_to(ROOT) for path in sorted(ROOT.glob("codegen/metal/host/*.[ch]"))),
)
"""What the package holds besides, relative to the root."""


def package_files() -> tuple[Path, ...]:
    """Every Python file of the package, relative to the root, sorted."""
    rooms = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return tuple(
        sorted(path.relative_to(ROOT) for path in (ROOT / "__init__.py", ROOT / "__main__.py", *rooms))
    )
