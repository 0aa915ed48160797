"""Batch invariance as a property: the bits of a token's logits under any schedule are those alone.

A schedule is random: which sequences run in a step, in which order, how many tokens of each, which are
preempted and begin again, and how much of what was computed for others of the same beginning they take over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.runtime.execution.artifact import open_artifact
from ingot.runtime.execution.tvm_executor import TvmExecutor
from ingot.runtime.scheduling.step import Executor, LogitRows, SequenceChunk, Step

from ..compiled import WHOLE_GROUPS, compile_tiny
from .stepping import Logits, in_steps
from .test_batch_invariance import ARTIFACTS
from .test_formats import SUPER_BLOCKS

_NUM_PAGES = 400
_COUNTS = (1, 1, 1, 2, 5, 16, 31, 90)


def _sequences() -> list[tuple[int, ...]]:
    """Sequences of several lengths, most of which begin alike."""
    random = np.random.default_rng(11)
    beginning = random.integers(0, 300, 70).tolist()
    lengths = ((70, 25), (64, 1), (33, 40), (16, 8), (0, 50), (48, 48))
    return [tuple(beginning[:common] + random.integers(0, 300, own).tolist()) for common, own in lengths]


SEQUENCES = _sequences()

_LLAMA: dict[str, Any] = {"architecture": "llama", **WHOLE_GROUPS}

CASES: dict[str, dict[str, Any]] = {
    # Compiled for others as well.
    **{name: ARTIFACTS[name] for name in ("int4", "pages of int8", "float32, experts", "float32, scans")},
    "bfloat16": {**_LLAMA, "dtype": "bfloat16"},
}

SLOW: dict[str, dict[str, Any]] = {
    **{name: options for name, options in ARTIFACTS.items() if name not in CASES},
    **{
        f"{quant}, pages of {kv_cache}": {**_LLAMA, "quant": quant, "kv_cache": kv_cache}
        for quant in ("none", "int8", "int4")
        for kv_cache in ("float16", "bfloat16", "int8", "int4")
    },
    **{
        quant: {**_LLAMA, "quant": quant}
        for quant in ("int4_g32", "int4_g32_z", "int3", "int6", "int8_row", "q4_0", "q5_1", "q8_0", "nf4_g32")
    },
    **{quant: {**_LLAMA, "quant": quant} for quant in ("mxfp4", "fp8_e4m3_row", "iq4_nl")},
    **{
        quant: {"architecture": "llama", "quant": quant, **SUPER_BLOCKS}
        for quant in ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "nvfp4")
    },
}


@pytest.fixture(
    scope="module",
    params=[*CASES.values(), *(pytest.param(options, marks=pytest.mark.slow) for options in SLOW.values())],
    ids=[*CASES, *SLOW],
)
def executor(request: pytest.FixtureRequest, parent: Path) -> Iterator[Executor]:
    artifact = open_artifact(compile_tiny(parent=parent, **request.param))
    memory = artifact.manifest.memory
    executor = TvmExecutor(
        artifact,
        kv_memory=_NUM_PAGES * memory.page_size * memory.kv_bytes_per_token,
        max_num_seqs=len(SEQUENCES),
        max_num_batched_tokens=512,
    )
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def alone(executor: Executor) -> list[Logits]:
    """Logits of each sequence, run alone and whole."""
    return [in_steps(executor, [tokens], [{0: len(tokens)}])[0] for tokens in SEQUENCES]


def test_no_schedule_changes_a_bit(executor: Executor, alone: list[Logits]) -> None:
    schedules = [_Schedule(executor, np.random.default_rng(seed)) for seed in range(8)]
    for schedule in schedules:
        _check(schedule, executor, alone)
    assert sum(schedule.num_preempted for schedule in schedules) > 8
    # Where a page is longer than what sequences have in common there is nothing to take over.
    assert executor.page_size > 64 or sum(schedule.num_taken_over for schedule in schedules) > 8


def _check(schedule: _Schedule, executor: Executor, alone: list[Logits]) -> None:
    for step in schedule.steps():
        logits = executor.run(step).logits
        first = 0
        for chunk in step.chunks:
            rows = logits[first : first + chunk.num_logit_rows]
            begin = chunk.num_computed_tokens
            expected = alone[chunk.sequence_id][begin : begin + len(chunk.token_ids)]
            np.testing.assert_array_equal(rows, expected[len(expected) - len(rows) :])
            first += len(rows)


@dataclass
class _Schedule:
    """Makes steps until every sequence has run to its end."""

    executor: Executor
    random: np.random.Generator
    num_preempted: int = 0
    num_taken_over: int = 0
    _computed: dict[int, int] = field(default_factory=dict)
    _pages: dict[int, list[int]] = field(default_factory=dict)
    _known: dict[tuple[int, ...], int] = field(default_factory=dict)
    """The page that holds the last positions of what begins so, for whole pages."""

    def steps(self) -> Iterator[Step]:
        """The steps; each must have run before the next is asked for."""
        self._free = self.random.permutation(self.executor.num_pages).tolist()
        for index in range(len(SEQUENCES)):
            self._begin(index)
        while left := [index for index in self._computed if self._computed[index] < len(SEQUENCES[index])]:
            for index in left:
                if self._computed[index] and self.random.random() < 0.12:
                    self._preempt(index)
            chosen = [index for index in left if self.random.random() < 0.6] or left[:1]
            self.random.shuffle(chosen)
            chunks = tuple(self._chunk(index) for index in chosen)
            yield Step(chunks)
            for chunk in chunks:
                self._computed[chunk.sequence_id] += len(chunk.token_ids)
                self._remember(chunk.sequence_id)

    def _begin(self, index: int) -> None:
        """Take over as many known pages as chance has it, but leave a token to compute."""
        tokens, size = SEQUENCES[index], self.executor.page_size
        pages: list[int] = []
        most = min(len(tokens) - 1, int(self.random.integers(0, 2 * len(tokens))))
        while (end := (len(pages) + 1) * size) <= most and tokens[:end] in self._known:
            pages.append(self._known[tokens[:end]])
        self.num_taken_over += len(pages)
        self._pages[index], self._computed[index] = pages, len(pages) * size

    def _preempt(self, index: int) -> None:
        """Give up all pages that nobody else may take over, and begin again."""
        self.num_preempted += 1
        kept = set(self._known.values())
        self._free = [page for page in self._pages[index] if page not in kept] + self._free
        self._begin(index)

    def _chunk(self, index: int) -> SequenceChunk:
        tokens, begin, pages = SEQUENCES[index], self._computed[index], self._pages[index]
        end = min(len(tokens), begin + int(self.random.choice(_COUNTS)))
        while len(pages) * self.executor.page_size < end:
            pages.append(self._free.pop(0))
        kinds = (LogitRows.ALL, LogitRows.ALL, LogitRows.LAST, LogitRows.NONE)
        kind = kinds[self.random.integers(len(kinds))]
        return SequenceChunk(index, tokens[begin:end], begin, tuple(pages), kind)

    def _remember(self, index: int) -> None:
        size = self.executor.page_size
        for number in range(self._computed[index] // size):
            self._known.setdefault(SEQUENCES[index][: (number + 1) * size], self._pages[index][number])
