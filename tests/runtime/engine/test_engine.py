import gc
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingot.ir.errors import ArtifactError, CapacityError, IngotError, RequestError
from ingot.runtime import Chunk, Engine, ModelInfo, SamplingParams
from ingot.runtime.engine.engine_stats import EngineStats

from ..fake_executor import FakeExecutor
from ..small_tokenizers import byte_level_tokenizer

INFO = ModelInfo("fake", 256, frozenset([1]))
GREEDY = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)


def _engine(executor: FakeExecutor | None = None, **limits: int) -> Engine:
    return Engine.from_executor(executor or FakeExecutor(), byte_level_tokenizer(), INFO, **limits)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with _engine() as engine:
        yield engine


def _settled(engine: Engine) -> EngineStats:
    """The engine's counts once nothing runs; an abort takes effect at the next step."""
    deadline = time.monotonic() + 5
    while engine.stats.num_requests and time.monotonic() < deadline:
        time.sleep(0.001)
    return engine.stats


def test_one_prompt_gives_one_answer_and_a_list_a_list(engine: Engine) -> None:
    one = engine.generate("hello", GREEDY)
    assert len(one.token_ids) == 8
    assert one.finish_reason == "length"
    assert one.usage.prompt_tokens == len(byte_level_tokenizer().encode("hello"))
    assert engine.generate(byte_level_tokenizer().encode("hello"), GREEDY) == one
    assert engine.generate(["hello", "hello", [1, 2, 3]], GREEDY)[:2] == [one, one]
    nothing: list[str] = []
    assert engine.generate(nothing, GREEDY) == []


def test_each_prompt_can_have_its_own_parameters(engine: Engine) -> None:
    short = SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True)
    outputs = engine.generate(["hello", "hello"], [GREEDY, short])
    assert [len(output.token_ids) for output in outputs] == [8, 2]
    with pytest.raises(RequestError, match="2 prompts but 1 SamplingParams"):
        engine.generate(["a", "b"], [GREEDY])
    with pytest.raises(RequestError, match="one prompt takes one SamplingParams"):
        engine.generate("a", [GREEDY])


def test_a_stream_is_the_answer_in_pieces(engine: Engine) -> None:
    output = engine.generate("hello", GREEDY)
    chunks = list(engine.stream("hello", GREEDY))
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    assert len(chunks) > 1
    assert "".join(chunk.text for chunk in chunks) == output.text
    assert tuple(token_id for chunk in chunks for token_id in chunk.token_ids) == output.token_ids
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage == output.usage


@pytest.mark.parametrize("leave", ["close", "collect", "exception"])
def test_leaving_a_stream_aborts_it_and_frees_its_pages(leave: str) -> None:
    executor = FakeExecutor(max_seq_len=50_000, num_pages=12_500)
    info = ModelInfo("fake", 50_000, frozenset())
    with Engine.from_executor(executor, byte_level_tokenizer(), info) as engine:
        stream = engine.stream("hello", SamplingParams(ignore_eos=True, temperature=0.0))
        next(stream)
        assert engine.stats.num_used_pages > 0
        if leave == "close":
            stream.close()
        elif leave == "collect":
            del stream
            gc.collect()
        else:
            with pytest.raises(KeyboardInterrupt):
                stream.throw(KeyboardInterrupt)
        assert _settled(engine).num_used_pages == 0
        assert executor.num_steps < 20_000
        assert engine.generate("hello", GREEDY).finish_reason == "length"


def test_a_seed_gives_the_same_answers_alone_and_in_company(engine: Engine) -> None:
    params = SamplingParams(max_tokens=12, seed=11, n=3, top_p=0.9)
    alone = engine.generate("hello", params)
    assert len({choice.token_ids for choice in alone.choices}) == 3
    assert [choice.index for choice in alone.choices] == [0, 1, 2]
    assert alone.usage.completion_tokens == sum(len(choice.token_ids) for choice in alone.choices)
    others = SamplingParams(max_tokens=20)
    assert engine.generate(["x", "hello", "y"], [others, params, others])[1] == alone
    first = engine.generate("hello", SamplingParams(max_tokens=12, seed=11, top_p=0.9))
    assert first.token_ids == alone.token_ids


def test_without_a_seed_answers_differ(engine: Engine) -> None:
    params = SamplingParams(max_tokens=12, ignore_eos=True)
    assert engine.generate("hello", params).token_ids != engine.generate("hello", params).token_ids


def test_logprobs_agree_with_scores(engine: Engine) -> None:
    prompt = byte_level_tokenizer().encode("hello")
    params = SamplingParams(max_tokens=6, temperature=1.0, seed=5, logprobs=3, ignore_eos=True)
    output = engine.generate(prompt, params)
    scores = engine.score([*prompt, *output.token_ids])
    assert scores.shape == (len(prompt) + 6, 300)
    assert scores.dtype == np.float32
    assert output.logprobs is not None
    for index, entry in enumerate(output.logprobs):
        row = scores[len(prompt) - 1 + index]
        assert entry.token_id == output.token_ids[index]
        assert entry.logprob == pytest.approx(row[entry.token_id], abs=1e-5)
        assert [top.token_id for top in entry.top] == np.argsort(-row)[:3].tolist()


def test_chat_goes_through_the_template(engine: Engine) -> None:
    messages = [{"role": "user", "content": "hi"}]
    reply = engine.chat(messages, GREEDY)
    text = "<s><|user|>hi\n<|assistant|>"
    token_ids = byte_level_tokenizer().encode(text, add_special_tokens=False)
    assert engine.encode_chat(messages) == token_ids
    assert reply == engine.generate(token_ids, GREEDY)
    assert list(engine.stream(messages, GREEDY))[-1].usage == reply.usage
    with pytest.raises(RequestError, match="must be an object with a role"):
        engine.chat([{"content": "hi"}], GREEDY)


@pytest.mark.parametrize(
    ("prompt", "params", "error", "words"),
    [
        ([], None, RequestError, "the prompt holds no tokens"),
        ([5, 300], None, RequestError, "token id 300, but ids go from 0 to 299"),
        ([5, -1], None, RequestError, "token id -1"),
        ([5, "a"], None, RequestError, "may not hold 'a'"),
        (b"bytes", None, RequestError, "must be text, token ids or messages, not bytes"),
        (7, None, RequestError, "must be text, token ids or messages, not int"),
        ("a", SamplingParams(logit_bias={300: 1.0}), RequestError, "logit_bias holds token id 300"),
        ("a", SamplingParams(stop_token_ids=[999]), RequestError, "stop_token_ids holds token id 999"),
        ("a", SamplingParams(logprobs=301), RequestError, "logprobs is 301"),
        ([5] * 256, None, CapacityError, r"257 tokens \(256 of the prompt and 1 to generate\).* is 256"),
        ([5] * 200, SamplingParams(max_tokens=57), CapacityError, "57 to generate"),
        ([5] * 200, SamplingParams(min_tokens=57), CapacityError, "57 to generate"),
    ],
)
def test_a_wrong_request_is_refused_before_it_runs(
    engine: Engine, prompt: Any, params: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        engine.stream(prompt, params)
    assert engine.stats.num_steps == 0


def test_a_request_that_exceeds_all_pages_is_refused_with_the_numbers() -> None:
    with _engine(FakeExecutor(num_pages=5, page_size=4)) as engine:
        with pytest.raises(CapacityError, match=r"21 tokens .* holds 20; give the engine more kv_memory"):
            engine.generate([5] * 20)
        with pytest.raises(CapacityError):
            engine.score([5] * 21)
        assert engine.score([5] * 20).shape == (20, 300)
        # Without max_tokens an answer goes on until its pages are full.
        output = engine.generate([5] * 4, SamplingParams(ignore_eos=True, temperature=0.0))
        assert (len(output.token_ids), output.finish_reason) == (16, "length")


def test_scores_too_large_for_the_machine_are_refused_and_the_engine_goes_on() -> None:
    executor = FakeExecutor()
    with _engine(executor) as engine:
        executor.vocab_size = 2**50
        with pytest.raises(CapacityError, match="lacks the memory for the answer"):
            engine.score([1, 2, 3])
        executor.vocab_size = 300
        assert engine.score([1, 2, 3]).shape == (3, 300)


def test_the_engines_own_limit_on_length_counts() -> None:
    with _engine(max_seq_len=10) as engine:
        assert engine.limits.max_seq_len == 10
        with pytest.raises(CapacityError, match="the longest sequence is 10"):
            engine.generate([5] * 10, SamplingParams())


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be a positive integer, not 0"),
        ({"max_num_batched_tokens": True}, "max_num_batched_tokens must be a positive integer"),
        ({"max_seq_len": -3}, "max_seq_len must be a positive integer, not -3"),
        (
            {"max_num_seqs": 8, "max_num_batched_tokens": 4},
            "each of max_num_seqs=8 sequences needs one",
        ),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        _engine(**limits)


def test_a_failing_executor_fails_its_requests_and_the_engine_goes_on() -> None:
    executor = FakeExecutor()
    with _engine(executor) as engine:
        executor.error = ValueError("device lost")
        for call in (lambda: engine.generate("a", GREEDY), lambda: engine.score([1, 2])):
            with pytest.raises(IngotError, match="the executor failed: ValueError: device lost") as failure:
                call()
            assert failure.value.__cause__ is executor.error
        executor.error = None
        assert len(engine.generate("a", GREEDY).token_ids) == 8
        assert engine.stats.num_used_pages == 0


def test_a_defect_in_the_engine_itself_reaches_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = FakeExecutor()
    engine = _engine(executor)
    monkeypatch.setattr("ingot.runtime.engine.engine_core.choose", lambda *_: 1 / 0)
    with pytest.raises(IngotError, match="the engine has failed: ZeroDivisionError"):
        engine.generate("a", GREEDY)
    with pytest.raises(IngotError, match="the engine has failed"):
        engine.generate("a", GREEDY)
    engine.close()
    assert executor.num_closed == 1


def test_a_defect_in_taking_a_request_fails_that_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with _engine(FakeExecutor()) as engine:
        with monkeypatch.context() as patch:
            patch.setattr("ingot.runtime.engine.engine_core.Generation", lambda *_, **__: 1 / 0)
            with pytest.raises(IngotError, match="could not be taken: ZeroDivisionError"):
                engine.generate("a", GREEDY)
        assert len(engine.generate("a", GREEDY).token_ids) == 8


def test_close_aborts_what_runs_closes_the_executor_once_and_refuses_more() -> None:
    executor = FakeExecutor()
    engine = _engine(executor)
    stream = engine.stream("hello", SamplingParams(ignore_eos=True))
    next(stream)
    engine.close()
    engine.close()
    assert executor.num_closed == 1
    assert list(stream)[-1].finish_reason in ("abort", "length")
    with pytest.raises(IngotError, match="the engine is closed"):
        engine.generate("a")
    engine.drain()


def test_drain_lets_requests_end_and_takes_no_more() -> None:
    with _engine() as engine:
        stream = engine.stream("hello", SamplingParams(max_tokens=200, ignore_eos=True))
        first = next(stream)
        engine.drain()
        with pytest.raises(IngotError, match="shutting down"):
            engine.generate("a")
        chunks = [first, *stream]
        assert sum(len(chunk.token_ids) for chunk in chunks) == 200
        assert chunks[-1].finish_reason == "length"


def test_an_engine_that_is_dropped_ends_its_thread() -> None:
    executor = FakeExecutor()
    engine = _engine(executor)
    engine.generate("a", GREEDY)
    del engine
    gc.collect()
    assert executor.num_closed == 1


def test_threads_share_an_engine(engine: Engine) -> None:
    expected = engine.generate("hello", GREEDY)
    outputs = []
    threads = [
        threading.Thread(target=lambda: outputs.append(engine.generate("hello", GREEDY))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == [expected] * 8


def test_what_is_no_artifact_goes_to_the_compiler_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "compile_model", None)
    with pytest.raises(ArtifactError, match=r"is not an artifact: it holds no manifest\.json"):
        Engine(tmp_path)
    asked = []

    def compile_model(model: str) -> Path:
        asked.append(model)
        raise ArtifactError("no compiler today")

    monkeypatch.setattr(Engine, "compile_model", staticmethod(compile_model))
    with pytest.raises(ArtifactError, match="no compiler today"):
        Engine("org/name")
    assert asked == ["org/name"]
    with pytest.raises(RequestError, match="kv_memory must be a size"):
        Engine(tmp_path, kv_memory="much")


def test_answers_follow_their_grammars_whatever_runs_beside_them(engine: Engine) -> None:
    asked = [
        SamplingParams(regex="(ab|c){3,9}", seed=1, n=3, max_tokens=60),
        SamplingParams(max_tokens=30, seed=2),
        SamplingParams(
            json_schema={
                "type": "object",
                "properties": {"a": {"type": "boolean"}},
                "required": ["a"],
                "additionalProperties": False,
            },
            temperature=0.0,
            max_tokens=150,
        ),
        SamplingParams(choice=["yes", "no"], seed=4, logprobs=3),
    ]
    together = engine.generate(["hello"] * 4, asked)
    assert together == [engine.generate("hello", params) for params in asked]
    words, _, document, choice = together
    assert all(re.fullmatch("(ab|c){3,9}", answer.text) for answer in words.choices)
    assert json.loads(document.text)["a"] in (True, False)
    assert choice.text in ("yes", "no")
    assert {output.finish_reason for output in (words, document, choice)} == {"stop"}
    assert choice.logprobs is not None
    assert len(choice.logprobs) == len(choice.token_ids)


def test_a_malformed_grammar_is_refused_before_anything_runs(engine: Engine) -> None:
    with pytest.raises(RequestError, match="minimum") as caught:
        engine.generate("hello", SamplingParams(json_schema={"type": "integer", "minimum": "x"}))
    assert caught.value.param == "json_schema"
    assert engine.stats.num_requests == 0


def test_a_text_that_cannot_fit_is_refused_without_encoding_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engine.tokenizer), "encode", lambda *_, **__: 1 / 0)
    with pytest.raises(CapacityError, match="3000000 characters, which are at least"):
        engine.generate("abc" * 1_000_000)
    with pytest.raises(CapacityError, match="characters"):
        engine.chat([{"role": "user", "content": "abc" * 1_000_000}])
