"""Masks computed while the model computes.

A step's masks depend on the tokens before it alone, so they can be had before its logits are. The engine's
thread writes, around the call that computes a step::

    worker.begin(states)                    # of the sequences whose logits the step gives, in their order
    output = executor.run(step)             # lets other Python threads run while it computes
    masks = worker.masks()                  # one for each state: a row, or the error of that state alone

In between it must not touch the states. llguidance lets other threads run too, so the worker stops the engine
for microseconds only. It is one thread: two gain nothing where the model's own threads take all cores.
"""

import threading
from collections.abc import Sequence
from queue import SimpleQueue

import numpy as np

from ...ir.errors import IngotError
from .state import GrammarState
from .token_mask import TokenMask

__all__ = ["MaskWorker"]


class MaskWorker:
    """Fills masks on a thread of its own, which starts with the first states; one other thread uses it."""

    def __init__(self, vocab_size: int) -> None:
        """Take the width of the logits."""
        self._num_words = -(-vocab_size // 32)
        self._rows = np.empty((0, self._num_words), np.uint32)
        self._thread: threading.Thread | None = None
        self._jobs: SimpleQueue[list[GrammarState] | None] = SimpleQueue()
        self._results: SimpleQueue[list[TokenMask | IngotError]] = SimpleQueue()
        self._is_pending = False

    def begin(self, states: Sequence[GrammarState]) -> None:
        """Start filling the states' masks; the rows of the last ones are written over."""
        self.masks()  # those of a step that failed in between
        if not states:
            return
        if len(states) > len(self._rows):
            self._rows = np.empty((len(states), self._num_words), np.uint32)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ingot-grammar-masks", daemon=True)
            self._thread.start()
        self._is_pending = True
        self._jobs.put(list(states))

    def masks(self) -> list[TokenMask | IngotError]:
        """Wait for the masks begun last and return them in order; they hold until :meth:`begin`.

        Returns:
            For each uint32 ``[ceil(vocab_size / 32)]``, or why it has none; nothing where none began.
        """
        if not self._is_pending:
            return []
        self._is_pending = False
        return self._results.get()

    def close(self) -> None:
        """End the thread."""
        self.masks()
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (states := self._jobs.get()) is not None:
            self._results.put([_filled(state, row) for state, row in zip(states, self._rows, strict=False)])


def _filled(state: GrammarState, row: TokenMask) -> TokenMask | IngotError:
    try:
        state.fill_mask(row)
    except IngotError as error:
        return error
    except (
        Exception
    ) as error:  # whatever it is, the engine waits for an answer, and the other states for theirs
        failure = IngotError(f"the grammar's mask could not be computed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure
    return row
