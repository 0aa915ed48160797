"""The machines that kernels are tested on."""

from __future__ import annotations

import pytest

from .machines import MACHINES, Machine, find_machine


@pytest.fixture(scope="session", params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Machine:
    """Each machine that can be had here, in turn."""
    found = find_machine(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found
