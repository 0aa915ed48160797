"""Work that ends when the client goes away: an answer that nobody reads must not hold pages."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import TypeVar

from fastapi import Response
from starlette.types import Receive, Scope, Send

__all__ = ["ClientGone", "EventStream", "unless_gone"]

_Result = TypeVar("_Result")


class ClientGone(Exception):  # noqa: N818 (nothing went wrong)
    """The client closed its connection before its answer was there."""


async def unless_gone(receive: Receive, work: Coroutine[object, object, _Result]) -> _Result:
    """Return what ``work`` returns; cancel it when the client behind ``receive`` disconnects.

    Raises:
        ClientGone: it did.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        # Waited for, so that an abandoned request has been given up when this returns.
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events out of ``events``, which is closed at the end or when the client goes away.

    Starlette's StreamingResponse closes nothing, and where a server speaks ASGI 2.4 it notices a client's
    leaving only when it sends, which for a long prompt is far too late.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response over an ASGI connection."""
        async with aclosing(self._events):
            with suppress(ClientGone):
                await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
