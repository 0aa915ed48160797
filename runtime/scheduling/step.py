"""What passes between the scheduler and an executor: one step over a ragged batch, as plain records.

The scheduler writes a :class:`Step`, an :class:`Executor` runs it and answers with a :class:`StepOutput`.
Prefill, chunked prefill and decode are the same thing here: a chunk of consecutive tokens of one sequence,
with the pages that hold (and will hold) its keys and values. The shape of the records follows vLLM's
``v1/core/sched/output.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .choosing import TokenChooser

__all__ = ["Executor", "LogitRows", "PageCopy", "SequenceChunk", "Step", "StepOutput"]


class LogitRows(Enum):
    """For which tokens of a chunk the executor returns logits."""

    NONE = auto()
    LAST = auto()
    ALL = auto()


@dataclass(frozen=True, slots=True)
class SequenceChunk:
    """What one sequence runs in one step.

    Attributes:
        sequence_id: who runs; unique within a step.
        token_ids: the tokens to compute now, at least one.
        num_computed_tokens: the tokens whose keys and values are in the pages already; thus also the
            position of ``token_ids[0]``.
        pages: page ids in order of position, covering ``num_computed_tokens + len(token_ids)`` positions.
        logits: the rows of logits wanted back.
    """

    sequence_id: int
    token_ids: tuple[int, ...]
    num_computed_tokens: int
    pages: tuple[int, ...]
    logits: LogitRows

    @property
    def num_logit_rows(self) -> int:
        """How many rows of :attr:`StepOutput.logits` are this chunk's."""
        match self.logits:
            case LogitRows.NONE:
                return 0
            case LogitRows.LAST:
                return 1
            case LogitRows.ALL:
                return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class PageCopy:
    """All that is in page ``source`` is to be in page ``target`` as well."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Step:
    """The ragged batch of one step; at least one chunk where it goes to an executor.

    Attributes:
        chunks: what each sequence runs. A page may be in several tables; one that a chunk writes to is in its
            own table only.
        page_copies: to be made before anything is computed, in this order.
    """

    chunks: tuple[SequenceChunk, ...]
    page_copies: tuple[PageCopy, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens computed in this step, over all chunks."""
        return sum(len(chunk.token_ids) for chunk in self.chunks)

    @property
    def num_logit_rows(self) -> int:
        """Rows of logits the step gives, over all chunks."""
        return sum(chunk.num_logit_rows for chunk in self.chunks)


class StepOutput:
    """What a step gave: logits in memory. Executors whose logits lie elsewhere have a class of their own."""

    def __init__(self, logits: npt.NDArray[np.float32]) -> None:
        self._logits = logits

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """Float32 ``[rows, vocab_size]``, rows in the order of the step's chunks (``LAST``: one, ``ALL``: one
        for each token in order). The array belongs to the caller, who may write to it, until the next
        ``run``.
        """
        return self._logits

    def rows(self, numbers: Sequence[int]) -> npt.NDArray[np.float32]:
        """Some rows of the logits."""
        logits = self.logits
        return logits if list(numbers) == list(range(len(logits))) else logits[list(numbers)]

    @property
    def chooser(self) -> TokenChooser | None:
        """Chooses tokens where the logits are; ``None``: nobody does, and logits are to be read."""
        return None


class Executor(Protocol):
    """Runs steps on a device. One thread calls it, never two at once."""

    @property
    def vocab_size(self) -> int:
        """The width of the logits; valid token ids are below it."""

    @property
    def page_size(self) -> int:
        """Positions a page holds."""

    @property
    def num_pages(self) -> int:
        """Pages there are; valid page ids are below it."""

    @property
    def max_seq_len(self) -> int:
        """The longest sequence, in tokens, that the compiled model can run."""

    def run(self, step: Step) -> StepOutput:
        """Make a step's page copies, compute it, and append its keys and values to the pages it names.

        It may return while a device still computes; who asks the output for something then waits for it.
        """

    def close(self) -> None:
        """Release the device's memory; called once, after the last ``run``."""
