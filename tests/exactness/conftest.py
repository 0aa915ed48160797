"""Collects the largest difference of each comparison, prints them at the end, writes them down if asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .checked import Findings, update_families

_LARGEST = pytest.StashKey[dict[str, float]]()
_FOUND = pytest.StashKey[dict[str, Findings]]()


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


@pytest.fixture(scope="session")
def findings(pytestconfig: pytest.Config) -> Callable[[str], Findings]:
    """Where a family's findings are collected, by its model type, for ``--update-checked``."""
    found = pytestconfig.stash.setdefault(_FOUND, {})
    return lambda model_type: found.setdefault(model_type, Findings())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down what was found, where that was asked for."""
    found = session.config.stash.get(_FOUND, {})
    if found and session.config.getoption("--update-checked"):
        update_families(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    largest = config.stash.get(_LARGEST, {})
    if largest:
        terminalreporter.section("exactness: largest differences")
        for label, difference in largest.items():
            terminalreporter.write_line(f"exactness: {label:<44} {difference:.1e}")
