"""Steps taken apart into runs of a graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ingot.runtime.execution.onnx_runs import LITTLE, MOST_SCORES, split_step
from ingot.runtime.scheduling.step import LogitRows, SequenceChunk, Step

PAGE_SIZE = 16


@st.composite
def steps(draw: st.DrawFn) -> Step:
    chunks = []
    for sequence in range(draw(st.integers(1, 7))):
        computed = draw(st.sampled_from((0, 1, 15, 16, 40, 3000)) | st.integers(0, 200))
        count = draw(st.sampled_from((1, 1, 2, 17, 2000)) | st.integers(1, 80))
        pages = tuple(range(-(-(computed + count) // PAGE_SIZE)))
        tokens = tuple(range(1000 * sequence, 1000 * sequence + count))
        chunks.append(
            SequenceChunk(sequence, tokens, computed, pages, draw(st.sampled_from(list(LogitRows))))
        )
    return Step(tuple(chunks))


@given(steps(), st.booleans())
def test_every_token_runs_once_behind_what_came_before(step: Step, within_pages: bool) -> None:
    computed = {chunk.sequence_id: chunk.num_computed_tokens for chunk in step.chunks}
    ran: dict[int, list[int]] = {chunk.sequence_id: [] for chunk in step.chunks}
    for run in split_step(step, PAGE_SIZE, within_pages=within_pages):
        chunks = run.step.chunks
        assert len({chunk.sequence_id for chunk in chunks}) == len(chunks)
        for chunk in chunks:
            assert chunk.num_computed_tokens == computed[chunk.sequence_id]
            computed[chunk.sequence_id] += len(chunk.token_ids)
            assert len(chunk.pages) == -(-computed[chunk.sequence_id] // PAGE_SIZE)
            ran[chunk.sequence_id].extend(chunk.token_ids)
            if within_pages:
                assert (
                    chunk.num_computed_tokens // PAGE_SIZE == (computed[chunk.sequence_id] - 1) // PAGE_SIZE
                )
    assert ran == {chunk.sequence_id: list(chunk.token_ids) for chunk in step.chunks}


@given(steps(), st.booleans())
def test_rows_find_their_places(step: Step, within_pages: bool) -> None:
    wanted = [
        token
        for chunk in step.chunks
        for token in chunk.token_ids[len(chunk.token_ids) - chunk.num_logit_rows :]
    ]
    places: dict[int, int] = {}
    for run in split_step(step, PAGE_SIZE, within_pages=within_pages):
        given_rows = [
            token
            for chunk in run.step.chunks
            for token in chunk.token_ids[len(chunk.token_ids) - chunk.num_logit_rows :]
        ]
        places.update(zip(run.rows, given_rows, strict=True))
    assert [places[place] for place in range(len(wanted))] == wanted


@given(steps())
def test_little_is_filled_up(step: Step) -> None:
    for run in split_step(step, PAGE_SIZE, within_pages=False):
        sizes = [(len(c.token_ids), c.num_computed_tokens + len(c.token_ids)) for c in run.step.chunks]
        longest, context = (max(column) for column in zip(*sizes, strict=True))
        filled, needed = len(sizes) * longest * context, sum(count * length for count, length in sizes)
        assert filled <= 2 * needed + LITTLE
        assert longest == 1 or filled <= MOST_SCORES


def test_a_step_of_like_sequences_is_one_run() -> None:
    chunks = tuple(SequenceChunk(n, (n,), 40 + n, (1, 2, 3), LogitRows.LAST) for n in range(6))
    (run,) = split_step(Step(chunks), PAGE_SIZE, within_pages=True)
    assert run.step.chunks == chunks
    assert run.rows == tuple(range(6))


def test_a_prompt_and_an_answer_run_apart() -> None:
    answer = SequenceChunk(0, (1,), 600, tuple(range(38)), LogitRows.LAST)
    prompt = SequenceChunk(1, tuple(range(512)), 0, tuple(range(32)), LogitRows.LAST)
    assert len(split_step(Step((answer, prompt)), PAGE_SIZE, within_pages=False)) == 2
