"""Options of the whole suite."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# Machines are shared: how long an example takes says nothing of the code. Continuous integration judges every
# change by the same examples; by hand they are new ones.
settings.register_profile(
    "shared",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("shared")

# A shell starts what runs in the background deaf to interrupts, and children inherit that: tests send them.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite what the cases in tests/golden expect"
    )
    parser.addoption(
        "--update-checked", action="store_true", help="write what was measured down for 'ingot models'"
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))
