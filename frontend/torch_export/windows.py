"""What the masks are that models ask for, found by asking them about positions."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from ...ir.errors import CompileError

__all__ = ["FAR", "FARTHEST", "window_of"]

_PROBED_KEYS = 4
"""Keys on either side of the edge of a window that a mask is asked about."""

FAR = 1 << 20
"""A position that no window reaches back from to the start."""

FARTHEST: ContextVar[int] = ContextVar("FARTHEST", default=FAR)
"""The last position of the model that is traced, as far as its masks are asked about."""


def window_of(mask_function: Callable[..., Any]) -> int:
    """The window of a causal mask, found by asking it; 0 where it sees all.

    Raises :class:`CompileError` where the mask is neither causal nor a window.
    """
    with unset_fake_temporarily(), disable_proxy_modes_tracing():
        zero = torch.tensor(0)

        def sees(query: int, key: int) -> bool:
            return bool(mask_function(zero, zero, torch.tensor(query), torch.tensor(key)))

        try:
            far = FARTHEST.get()
            window = _first_unseen(sees, far)
            queries = {0, 1, 5, _PROBED_KEYS + 20, max(window - 1, 0), window, window + 1, far}
            agrees = all(
                sees(query, key) == (key <= query and (not window or query - key < window))
                for query in queries
                if query <= far
                for key in _probed(query, window)
            )
        except (RuntimeError, IndexError, TypeError) as error:
            name = getattr(mask_function, "__qualname__", "its function")
            raise CompileError(f"the attention's mask ({name}) depends on more than positions") from error
    if not agrees:
        raise CompileError("the attention's mask is neither causal nor a sliding window, which is what runs")
    return window


def _first_unseen(sees: Callable[[int, int], bool], last: int) -> int:
    """How far back the query ``last`` sees, by bisection; 0 where it sees the first key."""
    if sees(last, 0):
        return 0
    near, far = 0, last  # distances that are seen and not seen
    while far - near > 1:
        middle = (near + far) // 2
        near, far = (middle, far) if sees(last, last - middle) else (near, middle)
    return far


def _probed(query: int, window: int) -> list[int]:
    """Keys at the start, about the query, and about the edge of its window."""
    edges = (0, query, query - window)
    near = range(-_PROBED_KEYS, _PROBED_KEYS + 1)
    return sorted({edge + step for edge in edges for step in near if edge + step >= 0})
