"""The emulator, for tests of itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .emulator import Emulator, find_emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    found = find_emulator()
    if isinstance(found, str):
        pytest.skip(found)
    with found:
        yield found
