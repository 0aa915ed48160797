"""Tokens chosen on the device are those that the host's sampler chooses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.cuda.machine import CUDA
from ingot.codegen.gpu.planning import Planning
from ingot.codegen.gpu.token_choice import plan_drawn, plan_likeliest
from ingot.ir import Graph
from ingot.runtime.execution.gpu.arena import place_buffers
from ingot.runtime.execution.gpu.cuda_driver import CudaDevice
from ingot.runtime.execution.gpu.replay import Replay
from ingot.runtime.execution.gpu.token_chooser import DeviceTokenChooser
from ingot.runtime.sampling.choosing import choose, wish_of
from ingot.runtime.sampling.sampler import SamplingFailure, SamplingState, sample
from ingot.runtime.sampling.sampling_params import SamplingParams
from ingot.runtime.scheduling.step import StepOutput
from ingot.targets.cuda import find_gpus
from ingot.targets.launch_plan import LaunchGroup, TokenChoice

from .emulated import compile_emulated, needs_compiler

pytestmark = needs_compiler

MANY, FEW = 5003, 300
"""Tokens of vocabularies: one that is drawn from in order, and one that is sorted whole."""

NUM_ROWS, MOST_LINES = 5, 9

Choose = Callable[[npt.NDArray[np.float32]], DeviceTokenChooser]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[TokenChoice, Path]]:
    """For each vocabulary the launches, and their kernels."""
    found = {}
    for vocab_size in (MANY, FEW):
        output = SimpleNamespace(type=SimpleNamespace(shape=("rows", vocab_size)))
        planning = Planning(cast(Graph, SimpleNamespace(outputs=[output])), CUDA, {})
        choice = TokenChoice(planning.apart(plan_likeliest), planning.apart(plan_drawn))
        folder = tmp_path_factory.mktemp("choice")
        found[vocab_size] = choice, compile_emulated(planning.functions, folder)
    return found


@pytest.fixture
def chooser(programs: dict[int, tuple[TokenChoice, Path]], gpu: Path) -> Choose:
    """A chooser over logits that are brought to the device."""

    def open_chooser(logits: npt.NDArray[np.float32]) -> DeviceTokenChooser:
        choice, kernels = programs[logits.shape[1]]
        device = CudaDevice(find_gpus()[0])
        groups = choice.likeliest, choice.drawn
        path = kernels.with_name("cuda-sm_90.cubin")
        path.write_bytes(str(kernels).encode())
        functions = device.load(path, [one.kernel for group in groups for one in group.launches])
        known = {("logits", "logits"): device.allocate(logits.nbytes)}
        device.write(known["logits", "logits"], logits)

        def replay(group: LaunchGroup, further: Any) -> Replay:
            offsets, size = place_buffers(group.buffers, {"lines": MOST_LINES})
            arena = device.allocate(size)
            own = {("buffer", name): arena + offset for name, offset in offsets.items()}
            return Replay(device, functions, group.launches, {**known, **further, **own})

        return DeviceTokenChooser(device, choice, replay, vocab_size=logits.shape[1], most_lines=MOST_LINES)

    return open_chooser


def rows_of(vocab_size: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Logits with ties, also of the largest."""
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((NUM_ROWS, vocab_size)) * 3).astype(np.float32)
    logits[1] = np.round(logits[1])
    logits[2, vocab_size // 2 :] = logits[2, : vocab_size - vocab_size // 2]
    return logits


def state_of(seed: int = 3, vocab_size: int = FEW, **params: Any) -> SamplingState:
    state = SamplingState(
        SamplingParams(**params),
        seed=seed,
        prompt_ids=list(range(5, 60, 3)),
        stop_ids=frozenset([1, 2]),
        token_bytes=lambda token_id: bytes([65 + token_id % 26]),
    )
    for token_id in (7, 7, 9, 5, 8, 11, 5, 8):
        state.record(token_id)
    return state


def masked(state: SamplingState, vocab_size: int, share: float) -> SamplingState:
    allowed = np.random.default_rng(5).random(-(-vocab_size // 32) * 32) < share
    state.allowed_tokens = np.packbits(allowed, bitorder="little").view("<u4")
    return state


SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "all": {},
    "cold": {"temperature": 0.3},
    "hot, top-p": {"temperature": 1.7, "top_p": 0.8},
    "little top-p": {"top_p": 0.05},
    "top-k": {"top_k": 40},
    "top-k, top-p, min-p": {"top_k": 17, "top_p": 0.7, "min_p": 0.02, "temperature": 2.0},
    "min-p that leaves few": {"min_p": 0.05},
    "min-p that leaves many": {"min_p": 1e-4, "temperature": 5.0, "top_p": 0.9},
    "penalties": {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": -0.7},
    "greedy with penalties": {
        "temperature": 0.0,
        "repetition_penalty": 1.9,
        "logit_bias": {7: 2.5, 9: -90.0},
    },
    "dry and bias": {"dry_multiplier": 4.0, "dry_allowed_length": 1, "logit_bias": {8: 3.0, 11: 4.0}},
    "no end yet": {"temperature": 0.0, "min_tokens": 99, "logit_bias": {1: 80.0}},
}


@pytest.mark.parametrize("vocab_size", [MANY, FEW])
def test_the_device_chooses_what_the_host_would(vocab_size: int, chooser: Choose) -> None:
    logits = rows_of(vocab_size)
    device = chooser(logits)
    for share in (1.0, 0.5, 0.01):
        states = [
            state_of(seed, vocab_size, **params)
            for seed, params in enumerate(SETTINGS.values())
            if share == 1.0 or "min_tokens" not in params
        ]
        if share < 1.0:
            states = [masked(state, vocab_size, share) for state in states]
        rows = [number % NUM_ROWS for number in range(len(states))]
        wishes = [wish_of(row, state) for row, state in zip(rows, states, strict=True)]
        assert all(wish is not None for wish in wishes)
        expected = [one.token_id for one in sample(logits[rows], states)]  # type: ignore[union-attr]
        assert device.choose([wish for wish in wishes if wish is not None]) == expected


def test_draws_are_spread_as_the_hosts_are(chooser: Choose) -> None:
    """Each place has a number of its own, and so a token; many lines take several turns."""
    logits = rows_of(MANY, seed=4)
    states = [state_of(seed, MANY, top_p=0.6, temperature=1.4) for seed in range(20)]
    wishes = [wish for state in states if (wish := wish_of(3, state)) is not None]
    expected = [one.token_id for one in sample(logits[[3] * 20], states)]  # type: ignore[union-attr]
    assert len(set(expected)) > 10
    assert chooser(logits).choose(wishes) == expected


def test_greedy_lines_alone_take_two_launches_and_see_no_number_that_is_none(chooser: Choose) -> None:
    logits = rows_of(FEW)
    logits[1, 17] = np.nan
    logits[3, 4] = np.inf
    states = [state_of(temperature=0.0) for _ in range(NUM_ROWS)]
    wishes = [wish for row, state in enumerate(states) if (wish := wish_of(row, state)) is not None]
    best = logits.argmax(axis=1).tolist()
    assert chooser(logits).choose(wishes) == [best[0], None, best[2], None, best[4]]


def test_what_is_the_hosts_is_read_and_done_there(chooser: Choose) -> None:
    """Only those rows are read: log-probabilities, more than can be sorted, and what cannot be chosen."""
    logits = rows_of(MANY)
    logits[2, 3] = np.nan
    device, read = chooser(logits), list[int]()

    class Output(StepOutput):
        chooser = device

        def rows(self, numbers: Any) -> npt.NDArray[np.float32]:
            read.extend(numbers)
            return super().rows(numbers)

    states = [
        state_of(vocab_size=MANY, top_k=2000),
        state_of(vocab_size=MANY, temperature=0.0),
        state_of(vocab_size=MANY, temperature=0.7),
        state_of(vocab_size=MANY, logprobs=2, temperature=0.0),
        masked(state_of(vocab_size=MANY), MANY, 0.0),
    ]
    chosen = choose(Output(logits), range(NUM_ROWS), states)
    expected = sample(logits, states)
    assert read == [0, 2, 3, 4]
    for ours, theirs in zip(chosen, expected, strict=True):
        if isinstance(theirs, SamplingFailure):
            assert isinstance(ours, SamplingFailure)
            assert str(ours.error) == str(theirs.error)
        else:
            assert ours == theirs
