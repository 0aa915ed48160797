"""Collects the largest difference of each comparison and prints them all at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

_LARGEST = pytest.StashKey[dict[str, float]]()


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where checkpoints and artifacts are made, the same for all modules of a session."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="session", autouse=True)
def _one_thread_for_torch() -> None:
    """Tiny matrices are not worth waking other threads, which share the cores with TVM's."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Takes note of a difference; the largest under each label is printed."""
    largest = request.config.stash.setdefault(_LARGEST, {})

    def note(label: str, difference: float) -> None:
        largest[label] = max(difference, largest.get(label, 0.0))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    largest = config.stash.get(_LARGEST, {})
    if largest:
        terminalreporter.section("exactness: largest differences")
        for label, difference in largest.items():
            terminalreporter.write_line(f"exactness: {label:<44} {difference:.1e}")
