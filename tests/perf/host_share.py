"""What the host does for steps that a GPU computes, tokens and all: ``python tests/perf/host_share.py``.

An executor stands in for the GPU that takes no time at all. So a step's time is the host's, and what lies
between the tokens of one step and the launch of the next is how long a GPU waits; text is made while it
computes.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from ingot.runtime import ModelInfo, SamplingParams
from ingot.runtime.engine.engine_core import EngineCore
from ingot.runtime.engine.request import GenerateRequest
from ingot.runtime.execution.batch import describe_tokens
from ingot.runtime.execution.gpu.page_table import PageTable
from ingot.runtime.scheduling.choosing import TokenWish
from ingot.runtime.scheduling.limits import Limits
from ingot.runtime.scheduling.step import Step, StepOutput
from ingot.runtime.text.tokenizer import Tokenizer

_CONTEXT, _PAGE = 4096, 16
_TINYCHAT = Path(__file__).parents[2] / "examples" / "tinychat" / "model"


class _Output(StepOutput):
    def __init__(self, executor: "_Instant") -> None:
        super().__init__(np.zeros((0, 0), np.float32))
        self._executor = executor

    @property
    def chooser(self) -> "_Output":
        return self

    def choose(self, wishes: Sequence[TokenWish]) -> list[int]:
        self._executor.chosen_at = time.perf_counter()
        return [5 + (7 * wish.row + wish.place) % 200 for wish in wishes]


class _Instant:
    """Does of a step what the host does for a GPU, and nothing else."""

    vocab_size, page_size, max_seq_len = 300, _PAGE, _CONTEXT

    def __init__(self, num_sequences: int) -> None:
        self.num_pages = num_sequences * _CONTEXT // _PAGE
        self.chosen_at: float | None = None
        self.waits: list[float] = []
        self._table = PageTable(num_sequences, _CONTEXT // _PAGE)

    def run(self, step: Step) -> StepOutput:
        self._table.fill(step.chunks)
        describe_tokens(step, _PAGE)
        if self.chosen_at is not None:
            self.waits.append(time.perf_counter() - self.chosen_at)
        return _Output(self)

    def close(self) -> None:
        """Nothing to give back."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", default="1,16,64")
    parser.add_argument("--tokens", type=int, default=300, help="of each answer")
    options = parser.parse_args()
    tokenizer = Tokenizer.load(_TINYCHAT)
    print("at once | ms a step | of it scheduling | making text | ms that a GPU waits")
    for count in map(int, options.concurrency.split(",")):
        executor = _Instant(count)
        limits = Limits(max_num_seqs=count, max_num_batched_tokens=2048, max_seq_len=_CONTEXT)
        core = EngineCore(executor, tokenizer, ModelInfo("none", _CONTEXT, frozenset([1])), limits)
        params = SamplingParams(temperature=0.0, max_tokens=options.tokens, ignore_eos=True)
        for handle in range(count):
            core.add(handle, GenerateRequest(tuple(range(5, 45)), params), lambda event: None)
        started = time.perf_counter()
        while core.has_work:
            core.step()
        seconds, stats = time.perf_counter() - started, core.stats
        parts = (seconds, stats.schedule_seconds, stats.emit_seconds)
        cells = [*(part / stats.num_steps * 1e3 for part in parts), median(executor.waits) * 1e3]
        print(" | ".join([f"{count:7}", *(f"{cell:.3f}" for cell in cells)]))


if __name__ == "__main__":
    main()
