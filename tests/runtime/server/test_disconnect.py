"""A client that goes away frees what its request held, whatever it was waiting for."""

import json
import socket
import time

import pytest

from .conftest import Served


def _send(url: str, path: str, body: dict[str, object]) -> socket.socket:
    """Send a request over a plain socket, which can be closed at any moment."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


# "0" is continued with digits for ever: five seconds on the slow model.
ENDLESS = {"model": "slow", "prompt": "0", "max_tokens": 1000}


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True},
        {"stream": False},
        {"stream": True, "prompt": ["0", "1"]},
        {"prompt": ["0", "1"]},
        {"n": 3},
    ],
)
def test_a_client_that_leaves_while_tokens_come(
    served: Served, caplog: pytest.LogCaptureFixture, fields: dict[str, object]
) -> None:
    engine = served.engines["slow"]
    with _send(served.url, "/v1/completions", ENDLESS | fields) as connection:
        deadline = time.monotonic() + 5
        while engine.stats.num_running == 0:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if fields.get("stream"):
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert engine.stats.num_used_pages > 0
    left = time.monotonic()
    served.wait_until_idle()
    assert time.monotonic() - left < 1
    assert (engine.stats.num_running, engine.stats.num_waiting, engine.stats.num_used_pages) == (0, 0, 0)
    time.sleep(0.02)
    assert not caplog.records, "leaving is no failure, and nothing to be logged"


def test_a_client_that_leaves_at_once(served: Served) -> None:
    steps = served.engines["slow"].stats.num_steps
    for streamed in (True, False):
        _send(served.url, "/v1/completions", ENDLESS | {"stream": streamed}).close()
    time.sleep(0.05)
    served.wait_until_idle()
    assert served.engines["slow"].stats.num_steps < steps + 100
