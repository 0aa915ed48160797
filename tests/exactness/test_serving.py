"""At temperature 0 an answer is the same, bit for bit, alone or in any company, and however it was cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from ingot.runtime import RequestOutput, SamplingParams
from ingot.runtime.engine.collector import Collector
from ingot.runtime.engine.engine_core import EngineCore
from ingot.runtime.engine.outputs import Chunk
from ingot.runtime.engine.request import Event, GenerateRequest
from ingot.runtime.execution.artifact import Artifact, open_artifact
from ingot.runtime.execution.tvm_executor import TvmExecutor
from ingot.runtime.scheduling.limits import Limits
from ingot.runtime.text.tokenizer import Tokenizer

from ..compiled import compile_tiny, compile_tinychat

NUM_REQUESTS = 56
TEXTS = (
    "Once upon a time there was a small fox who lived by the river with her mother and two brothers. One ",
    "Once upon a time there was a small bear. He liked honey more than anything else in the forest, and so ",
    "What is 23 + 45? What is 12 + 9? What is the capital of France? ",
)


@dataclass(frozen=True)
class Circumstances:
    """How a stream of requests is run.

    Attributes:
        max_num_seqs: sequences side by side.
        max_num_batched_tokens: few of them cut prompts into chunks.
        num_pages: few of them bring preemption.
        caches_prefixes: what was computed for others is used again.
    """

    max_num_seqs: int = 32
    max_num_batched_tokens: int = 512
    num_pages: int = 400
    caches_prefixes: bool = True


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return open_artifact(compile_tinychat(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="module")
def tokenizer(artifact: Artifact) -> Tokenizer:
    return Tokenizer.load(artifact.tokenizer_folder)


@pytest.fixture(scope="module")
def requests(tokenizer: Tokenizer) -> list[GenerateRequest]:
    random = np.random.default_rng(5)
    return [_request(random, tokenizer) for _ in range(NUM_REQUESTS)]


@pytest.fixture(scope="module")
def alone(artifact: Artifact, tokenizer: Tokenizer, requests: list[GenerateRequest]) -> list[RequestOutput]:
    """Each answer as it is when nothing else was ever there and each prompt runs whole."""
    with _core(artifact, tokenizer, Circumstances(max_num_seqs=1, caches_prefixes=False)) as core:
        return [output for request in requests for output in _run(core, [request], every=0)]


@pytest.mark.parametrize(
    "circumstances",
    [
        Circumstances(),
        Circumstances(caches_prefixes=False),
        Circumstances(max_num_seqs=7, max_num_batched_tokens=13),
        Circumstances(num_pages=19, max_num_batched_tokens=100),
        Circumstances(num_pages=19, max_num_batched_tokens=40, caches_prefixes=False),
    ],
    ids=["32 at once", "no prefixes", "chunks", "preemption", "preemption, no prefixes"],
)
def test_every_answer_is_the_one_it_gets_alone(
    artifact: Artifact,
    tokenizer: Tokenizer,
    requests: list[GenerateRequest],
    alone: list[RequestOutput],
    circumstances: Circumstances,
) -> None:
    with _core(artifact, tokenizer, circumstances) as core:
        for output, expected in zip(_run(core, requests, every=3), alone, strict=True):
            # Equal answers have equal tokens, texts and log-probabilities; the last are compared as floats.
            assert output == expected
        stats = core.stats
        assert stats.num_used_pages == 0
        assert bool(stats.num_prefix_tokens_hit) == circumstances.caches_prefixes
        # A few are preempted for others of more urgent priority, however many pages there are.
        assert circumstances.num_pages == 400 or stats.num_preemptions > 8


@pytest.mark.parametrize(
    "architecture", ["granitemoehybrid", pytest.param("qwen3_next", marks=pytest.mark.slow)]
)
def test_states_go_with_the_pages(tmp_path_factory: pytest.TempPathFactory, architecture: str) -> None:
    """Convolutions, scans and delta rules beside attention: shared, copied, cut and preempted all at once."""
    artifact = open_artifact(
        compile_tiny(architecture, tmp_path_factory.getbasetemp(), max_position_embeddings=512)
    )
    tokenizer = Tokenizer.load(artifact.tokenizer_folder)
    random = np.random.default_rng(6)
    requests = [_request(random, tokenizer) for _ in range(20)]
    with _core(artifact, tokenizer, Circumstances(max_num_seqs=1, caches_prefixes=False)) as core:
        alone = [output for request in requests for output in _run(core, [request], every=0)]
    with _core(artifact, tokenizer, Circumstances(num_pages=18, max_num_batched_tokens=40)) as core:
        assert list(_run(core, requests, every=3)) == alone
        assert core.stats.num_prefix_tokens_hit > 0
        assert core.stats.num_preemptions > 3


def _request(random: np.random.Generator, tokenizer: Tokenizer) -> GenerateRequest:
    text = TEXTS[random.integers(len(TEXTS))]
    token_ids = tokenizer.encode(text * int(random.integers(1, 4)))
    token_ids = token_ids[: int(random.integers(1, min(len(token_ids), 160)))]
    params = SamplingParams(
        temperature=0.0,
        max_tokens=int(random.integers(1, 90)),
        ignore_eos=bool(random.random() < 0.5),
        n=int(random.choice([1, 1, 1, 2])),
        logprobs=2,
        prompt_logprobs=0 if random.random() < 0.1 else None,
    )
    return GenerateRequest(tuple(token_ids), params, priority=int(random.choice([0, 0, 0, 1])))


class _core:  # noqa: N801 (used like a function)
    """An engine core on an executor of its own, closed at the end."""

    def __init__(self, artifact: Artifact, tokenizer: Tokenizer, circumstances: Circumstances) -> None:
        plan = artifact.manifest.memory
        page_bytes = plan.kv_bytes_per_token * plan.page_size
        self._executor = TvmExecutor(
            artifact,
            kv_memory=circumstances.num_pages * page_bytes,
            max_num_seqs=circumstances.max_num_seqs,
            max_num_batched_tokens=circumstances.max_num_batched_tokens,
        )
        limits = Limits(
            circumstances.max_num_seqs,
            circumstances.max_num_batched_tokens,
            self._executor.max_seq_len,
            caches_prefixes=circumstances.caches_prefixes,
        )
        self._core = EngineCore(self._executor, tokenizer, artifact.info, limits)

    def __enter__(self) -> EngineCore:
        return self._core

    def __exit__(self, *_: object) -> None:
        self._executor.close()


def _run(core: EngineCore, requests: Sequence[GenerateRequest], *, every: int) -> Iterator[RequestOutput]:
    """Run requests, the first half at once and then one in so many steps, and give their answers in order."""
    inboxes: list[list[Event]] = [[] for _ in requests]
    waiting = iter(enumerate(requests))
    num_at_once = len(requests) // 2
    base = core.stats.num_steps + 1_000_000 * core.stats.num_prompt_tokens
    step = 0
    while core.has_work or step <= num_at_once + every * len(requests):
        if step < num_at_once or every == 0 or step % every == 0:
            handle, request = next(waiting, (None, None))
            if handle is not None and request is not None:
                core.add(base + handle, request, inboxes[handle].append)
        if step >= num_at_once:
            core.step()
            core.scheduler.check_integrity()
        step += 1
    for request, inbox in zip(requests, inboxes, strict=True):
        collector = Collector(request.params.n)
        outputs = [collector.add(event) for event in inbox if isinstance(event, Chunk)]
        assert outputs[-1] is not None
        yield outputs[-1]
