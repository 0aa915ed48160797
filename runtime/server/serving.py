"""An application on a socket, from the first connection to the last answer."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from ...ir.errors import IngotError

__all__ = ["bind", "serve", "url_of"]


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to ``host`` and ``port`` (0: any free one) that does not accept yet.

    Done before a model is loaded, so that a port in use is told at once.

    Raises:
        IngotError: the address is in use, forbidden or unknown.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise _address_error(host, port, error) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL at which ``listener`` is reached from its own host."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


async def serve(
    app: FastAPI, listener: socket.socket, *, on_ready: Callable[[], None], log_level: str = "warning"
) -> None:
    """Serve until SIGTERM or SIGINT, then accept nothing more, finish what runs, and return.

    A second SIGINT cuts off what runs. Call it from the main thread, which is the one that gets signals.

    Args:
        app: what to serve.
        listener: as :func:`bind` returns it; closed at the end.
        on_ready: called once connections are accepted.
        log_level: of uvicorn's loggers.

    Raises:
        IngotError: somebody else listens at the address by now.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level=log_level,
        access_log=log_level in ("info", "debug"),
        log_config=None,  # uvicorn's own writes the access log to stdout
    )
    try:
        await _Server(config, on_ready).serve(sockets=[listener])
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        host, port = listener.getsockname()[:2]
        raise _address_error(host, port, error) from None
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn's server, that says when it is ready and takes a signal for a request, not for its death."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again once all is done, which ends the process with -SIGTERM, not 0.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _address_error(host: str, port: int, error: OSError) -> IngotError:
    if error.errno == errno.EADDRINUSE:
        return IngotError(f"port {port} of {host} is in use; give another with --port (0 takes a free one)")
    reason = error.strerror or error
    return IngotError(f"cannot listen on {host}:{port}: {reason}")
