"""An executor that chooses tokens itself: answers are the same, and text is made while it computes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from ingot.runtime import ModelInfo, SamplingParams
from ingot.runtime.engine.engine_core import EngineCore
from ingot.runtime.engine.outputs import Chunk
from ingot.runtime.engine.request import Event, GenerateRequest
from ingot.runtime.scheduling.choosing import TokenWish
from ingot.runtime.scheduling.limits import Limits
from ingot.runtime.scheduling.step import Step, StepOutput

from ..fake_executor import FakeExecutor
from ..small_tokenizers import byte_level_tokenizer


class _Output(StepOutput):
    """Logits of which the likeliest are taken here; whoever draws is the host's."""

    log: list[str]

    @property
    def chooser(self) -> "_Output":
        return self

    def choose(self, wishes: Sequence[TokenWish]) -> list[int | None]:
        self.log.append("choose")
        best = self.logits.argmax(axis=1)
        return [int(best[wish.row]) if wish.is_plain else None for wish in wishes]


class _Executor(FakeExecutor):
    def __init__(self, log: list[str], **sizes: int) -> None:
        super().__init__(**sizes)
        self._log = log

    def run(self, step: Step) -> StepOutput:
        self._log.append("run")
        output = _Output(super().run(step).logits)
        output.log = self._log
        return output


def _answers(
    on_device: bool, params: Sequence[SamplingParams], log: list[str], abort_at: int | None = None
) -> list[list[Event]]:
    sizes = {"num_pages": 40, "page_size": 4, "max_seq_len": 96}
    executor = _Executor(log, **sizes) if on_device else FakeExecutor(**sizes)
    limits = Limits(max_num_seqs=5, max_num_batched_tokens=12, max_seq_len=96)
    core = EngineCore(executor, byte_level_tokenizer(), ModelInfo("fake", 96, frozenset([1])), limits)
    inboxes: list[list[Event]] = [[] for _ in params]

    def hear(inbox: list[Event]) -> Any:
        def sink(event: Event) -> None:
            inbox.append(event)
            log.append("tell")

        return sink

    for handle, (given, inbox) in enumerate(zip(params, inboxes, strict=True)):
        core.add(handle, GenerateRequest((9, 8, 7), given), hear(inbox))
    number = 0
    while core.has_work:
        core.step()
        core.scheduler.check_integrity()
        number += 1
        if number == abort_at:
            core.abort(0)
    return inboxes


def _tokens(events: Sequence[Event]) -> list[int]:
    return [token_id for event in events if isinstance(event, Chunk) for token_id in event.token_ids]


PARAMS = [
    SamplingParams(temperature=0.0, max_tokens=9),
    SamplingParams(temperature=0.8, seed=4, max_tokens=7, n=2),
    SamplingParams(temperature=0.0, max_tokens=20, stop=["e"], logprobs=1),
    SamplingParams(temperature=0.0, max_tokens=5, repetition_penalty=1.5),
    SamplingParams(temperature=0.0, max_tokens=1),
]


def test_answers_are_what_they_are_on_the_host() -> None:
    expected, found = _answers(False, PARAMS, []), _answers(True, PARAMS, [])
    assert [_tokens(events) for events in found] == [_tokens(events) for events in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert [type(event) for event in ours] == [type(event) for event in theirs]
        assert ours[-1].usage == theirs[-1].usage  # type: ignore[union-attr]


def test_text_is_made_while_the_device_computes() -> None:
    log: list[str] = []
    _answers(True, [SamplingParams(temperature=0.0, max_tokens=12)], log)
    # Some tokens are parts of a letter and have no text of their own; the last is told of at once.
    before = [previous for previous, event in pairwise(log) if event == "tell"]
    assert before[:-1] == ["run"] * (len(before) - 1)
    assert len(before) > 3
    assert log[-2:] == ["choose", "tell"]


@pytest.mark.parametrize("abort_at", [1, 3])
def test_an_aborted_answer_holds_all_tokens_that_were_chosen(abort_at: int) -> None:
    [events] = _answers(True, [SamplingParams(temperature=0.0, max_tokens=9)], [], abort_at)
    assert len(_tokens(events)) == abort_at
    assert isinstance(events[-1], Chunk)
    assert events[-1].finish_reason == "abort"
