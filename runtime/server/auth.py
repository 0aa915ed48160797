"""Bearer keys in front of the whole API, but for the paths that probes ask."""

import hmac
from collections.abc import Sequence
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import ApiError, error_response

__all__ = ["ApiKeyMiddleware"]

_OPEN_PATHS = frozenset({"/health", "/version"})


class ApiKeyMiddleware:
    """Answers 401 to requests without one of ``api_keys`` in ``Authorization: Bearer KEY``."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str]) -> None:
        self._app = app
        # Digests have one length, so comparing them tells nothing about a key's.
        self._digests = [_digest(key) for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS or self._knows(Headers(scope=scope)):
            return await self._app(scope, receive, send)
        error = ApiError(
            401,
            "this server asks for an API key, sent as 'Authorization: Bearer KEY'; none or a wrong one came",
            code="invalid_api_key",
        )
        await error_response(error, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
        return None

    def _knows(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        given = _digest(key.strip())
        # Every digest is compared, so that the time does not tell which key came close.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == "bearer" and any(matches)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()
