"""What a benchmark finds, as plain records; their fields are those of ``ingot bench --json``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BenchRecord",
    "FractionOfLimit",
    "GroupRecord",
    "HostRecord",
    "PeerRecord",
    "PeerRun",
    "Percentiles",
    "RunRecord",
    "StepProfile",
    "StepShare",
]


@dataclass(frozen=True, slots=True)
class HostRecord:
    """This machine and its limits as they were measured with all threads; None where they were not.

    Machines that are shared grow slower and faster, so that both sides of a benchmark are measured and the
    higher counts.

    Attributes:
        cpu: its name.
        threads: how many threads kernels run on.
        read_gb_s: memory read as a stream, in 10**9 bytes a second.
        int8_tops: products of bytes and their sums, 10**12 operations a second, two a product; by the fastest
            of the instructions that the artifact's library for this machine is made of, as are the others.
        bf16_tflops: the same of bfloat16.
        float32_tflops: the same of float32.
        gpu: the GPU's name, whose limits these are then; None: they are those of the processor.
        copy_gb_s: the GPU's memory copied, bytes read and written counted together.
    """

    cpu: str
    threads: int
    read_gb_s: float | None
    int8_tops: float | None
    bf16_tflops: float | None
    float32_tflops: float | None
    gpu: str | None = None
    copy_gb_s: float | None = None

    @property
    def memory_gb_s(self) -> float | None:
        """What memory gives: as a stream is read, or on a GPU as it is copied."""
        return self.copy_gb_s if self.gpu else self.read_gb_s

    def best_of(self, other: HostRecord) -> HostRecord:
        """Each limit as it was measured highest."""
        return HostRecord(
            cpu=self.cpu,
            threads=self.threads,
            read_gb_s=_higher(self.read_gb_s, other.read_gb_s),
            int8_tops=_higher(self.int8_tops, other.int8_tops),
            bf16_tflops=_higher(self.bf16_tflops, other.bf16_tflops),
            float32_tflops=_higher(self.float32_tflops, other.float32_tflops),
            gpu=self.gpu,
            copy_gb_s=_higher(self.copy_gb_s, other.copy_gb_s),
        )

    def operations_per_second(self, arithmetic: str) -> float | None:
        """The limit of products of ``int8``, ``bfloat16`` or ``float32``.

        Where no instruction multiplies bfloat16, floats are multiplied.
        """
        bfloat16 = self.float32_tflops if self.bf16_tflops is None else self.bf16_tflops
        limits = {"int8": self.int8_tops, "bfloat16": bfloat16, "float32": self.float32_tflops}
        limit = limits[arithmetic]
        return None if limit is None else limit * 1e12


def _higher(one: float | None, other: float | None) -> float | None:
    return max((rate for rate in (one, other) if rate is not None), default=None)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of measured times, in milliseconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class FractionOfLimit:
    """How much of the machine a phase used; None where there is nothing to compare.

    Attributes:
        decode: bytes of weights, keys and values that steps read, of what memory gives in the time.
        prefill: operations of matrix products, of what the instructions used for them can do in the time.
    """

    decode: float | None
    prefill: float | None


@dataclass(frozen=True, slots=True)
class StepShare:
    """What each phase of a step had of the time that steps took; together 1.

    Attributes:
        schedule: deciding what runs, and taking note of what has run.
        execute: the executor.
        sample: choosing tokens.
        grammar: waiting for grammars' masks.
        emit: turning tokens into text and handing it on.
    """

    schedule: float
    execute: float
    sample: float
    grammar: float
    emit: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """So many requests at once, each with as long a prompt and answer. Rates are medians over rounds.

    Attributes:
        concurrency: requests at once.
        prompt_tokens: of each request.
        output_tokens: of each request.
        prefill_tok_s: prompt tokens of all requests, until each had its first token.
        decode_tok_s: tokens of all requests in steps that only decode; None where there were none.
        output_tok_s: tokens of all answers, from the first request's start to the last one's end.
        ttft_ms: from a request's start to its first token, over all requests and rounds.
        itl_ms: between neighbouring tokens of an answer, likewise; None where answers are of one token.
        fraction_of_limit: of what this machine can do.
        step_share: where the time of all rounds' steps went; None where the clock saw none pass.
    """

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    prefill_tok_s: float
    decode_tok_s: float | None
    output_tok_s: float
    ttft_ms: Percentiles
    itl_ms: Percentiles | None
    fraction_of_limit: FractionOfLimit
    step_share: StepShare | None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """What one kind of work had of a step.

    Attributes:
        name: the kind.
        ms: the time it took.
        share: of the step's time.
        calls: how many kernels were called for it.
        bytes: what it has to read at least: weights, keys and values once each; of other kernels the rows
            that they read and write, which mostly lie in caches. 0 where there are none to tell.
        operations: of products, two for each.
        limit: what binds it: ``memory``, or the arithmetic of its products; None where neither is known.
        fraction_of_limit: the time that this limit asks for, of the time it took.
    """

    name: str
    ms: float
    share: float
    calls: int
    bytes: float
    operations: float
    limit: str | None
    fraction_of_limit: float | None


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Where the time of one step goes.

    Attributes:
        phase: ``prefill`` or ``decode``.
        sequences: in the step.
        tokens: in the step.
        context_tokens: of each sequence, the step's own among them.
        step_ms: all groups together.
        groups: the largest first.
    """

    phase: str
    sequences: int
    tokens: int
    context_tokens: int
    step_ms: float
    groups: tuple[GroupRecord, ...]


@dataclass(frozen=True, slots=True)
class PeerRun:
    """Another system with so many requests at once; rates are what they are in :class:`RunRecord`."""

    concurrency: int
    prefill_tok_s: float
    decode_tok_s: float
    output_tok_s: float


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Another system on one model.

    Attributes:
        name: of the system.
        model: the name of its file or folder; None where it did not come to one.
        status: ``measured``, ``not installed``, or why not.
        load_s: until it could answer; None where it was not measured.
        runs: one for each concurrency that it can do.
    """

    name: str
    model: str | None
    status: str
    load_s: float | None = None
    runs: tuple[PeerRun, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchRecord:
    """A whole benchmark.

    Attributes:
        host: the machine.
        model: the model's name.
        quant: how its weights are quantized.
        weight_bytes: its parameters as they are stored.
        load_s: from opening the artifact to an executor that is ready.
        first_token_s: from the start of ``ingot run`` on a short prompt to its first token; None where that
            was not asked for.
        peak_memory_bytes: the most this process held at once, mapped weights included.
        runs: one for each concurrency.
        profile: a step of a prompt, and one that decodes for each concurrency; empty unless asked for.
        peers: other systems on this machine; empty unless asked for.
        runs_after: ``runs`` once more, behind those of the peers.
        device_memory_bytes: what it took of a GPU's memory; None where it ran on none.
    """

    host: HostRecord
    model: str
    quant: str
    weight_bytes: int
    load_s: float
    first_token_s: float | None
    peak_memory_bytes: int
    runs: tuple[RunRecord, ...]
    profile: tuple[StepProfile, ...] = ()
    peers: tuple[PeerRecord, ...] = ()
    runs_after: tuple[RunRecord, ...] = ()
    device_memory_bytes: int | None = None
