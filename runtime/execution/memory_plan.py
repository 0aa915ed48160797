"""What serving a model takes in memory, from its manifest alone: made before anything is loaded, and kept.

Weights count in full, though they are mapped from their file: a model whose weights do not stay in memory
reads them from the disk at every step. Pages of keys and values count in full, though the system gives their
memory out as they are first written: what is promised here can be used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...ir.errors import CapacityError
from ...targets import Manifest, available_memory_bytes
from ...targets.sizes import format_size

__all__ = ["GPU_KV_SHARE", "KV_SHARE", "PlannedMemory", "plan_memory"]

KV_SHARE = 0.5
"""The part of the memory that all else leaves which pages may take when nobody says how much."""

GPU_KV_SHARE = 0.9
"""The same of a GPU's memory, which nobody else is to have."""

_LOGIT_BYTES = 4  # float32

_INT4_BYTES = 0.57
"""Bytes that a parameter takes in int4, scales and what stays wider counted in."""


@dataclass(frozen=True, slots=True)
class PlannedMemory:
    """A model's memory in bytes, part by part, and what its pages are good for.

    Attributes:
        weight_bytes: the parameters.
        kv_bytes: the pages of keys and values.
        logits_bytes: the rows of logits of the largest step.
        activation_bytes: what the largest step computes on its way.
        available_bytes: what there was when the plan was made.
        num_pages: pages of keys and values.
        page_size: tokens a page holds.
        max_seq_len: the longest sequence that model, limit and pages allow, in tokens.
        model_max_seq_len: the longest sequence the model was compiled for, in tokens.
    """

    weight_bytes: int
    kv_bytes: int
    logits_bytes: int
    activation_bytes: int
    available_bytes: int
    num_pages: int
    page_size: int
    max_seq_len: int
    model_max_seq_len: int

    @property
    def parts(self) -> Mapping[str, int]:
        """The parts by name, which add up to :attr:`total_bytes`; logits may be vectors."""
        return {
            "weights": self.weight_bytes,
            "kv_pages": self.kv_bytes,
            "logits": self.logits_bytes,
            "activations": self.activation_bytes,
        }

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    @property
    def num_kv_tokens(self) -> int:
        """Tokens whose keys and values all pages together hold."""
        return self.num_pages * self.page_size

    def lines(self) -> Iterator[str]:
        """The plan as lines of a table, for people."""
        pages = f"{self.num_pages} pages of {self.page_size} tokens, {self.num_kv_tokens} tokens in all"
        longest = f"the longest sequence is {self.max_seq_len} tokens"
        if self.max_seq_len < self.model_max_seq_len:
            longest += f"; the model could take {self.model_max_seq_len}"
        remark = f"{pages}; {longest}" if self.num_pages else f"nothing is kept; {longest}"
        rows = (
            ("weights", self.weight_bytes, ""),
            ("keys and values", self.kv_bytes, remark),
            ("logits", self.logits_bytes, ""),
            ("activations", self.activation_bytes, ""),
            ("together", self.total_bytes, f"of {format_size(self.available_bytes)} that can be had"),
        )
        for name, size, remark in rows:
            yield f"  {name:<16} {format_size(size):>10}  {remark}".rstrip()


def plan_memory(
    manifest: Manifest,
    *,
    kv_memory: int | None,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    max_seq_len: int | None = None,
    available_bytes: int | None = None,
    activation_bytes: int | None = None,
    kv_share: float = KV_SHARE,
) -> PlannedMemory:
    """Plan a model's memory.

    Args:
        manifest: of the model's artifact.
        kv_memory: bytes for pages; ``None``: enough for ``max_num_seqs`` of the longest sequences, or
            ``kv_share`` of what all else leaves of the memory, if that is less. Pages beyond use are not
            taken.
        max_num_seqs: most sequences in a step.
        max_num_batched_tokens: most tokens in a step.
        max_seq_len: a length of sequence that must fit; ``None``: what fits is enough.
        available_bytes: memory there is; ``None``: what this machine, or this container, has left now.
        activation_bytes: what the largest step computes on its way; ``None``: as its manifest says.
        kv_share: see ``kv_memory``.

    Raises:
        CapacityError: steps of so many tokens cannot be run, ``kv_memory`` holds no page or no sequence of
            ``max_seq_len`` tokens, or all together is more than there is.
    """
    record = manifest.memory
    if max_num_batched_tokens > record.max_step_tokens:
        raise CapacityError(
            f"max_num_batched_tokens is {max_num_batched_tokens}, and this artifact runs steps of up to "
            f"{record.max_step_tokens} tokens",
            "max_num_batched_tokens",
        )
    available = available_memory_bytes() if available_bytes is None else available_bytes
    if manifest.model.task != "generate":
        plan = _plan_vectors(manifest, max_num_batched_tokens, max_seq_len, available, activation_bytes)
        return _fitting(plan, manifest)
    page_bytes = record.kv_bytes_per_token * record.page_size
    if activation_bytes is None:
        activation_bytes = max_num_batched_tokens * record.activation_bytes_per_token
    logits_bytes = max_num_batched_tokens * manifest.model.vocab_size * _LOGIT_BYTES
    left = available - record.weight_bytes - logits_bytes - activation_bytes
    if left < page_bytes:
        raise _does_not_fit(manifest, logits_bytes + activation_bytes + page_bytes, available)
    num_pages = _num_pages(manifest, kv_memory, max_num_seqs, int(left * kv_share))
    num_kv_tokens = num_pages * record.page_size
    longest = min(num_kv_tokens, manifest.model.max_seq_len)
    if max_seq_len is not None:
        if num_kv_tokens < min(max_seq_len, manifest.model.max_seq_len):
            raise CapacityError(
                f"the memory for keys and values holds {num_kv_tokens} tokens ({num_pages} pages, "
                f"{format_size(num_pages * page_bytes)}), less than a sequence of max_seq_len={max_seq_len} "
                f"with its {format_size(max_seq_len * record.kv_bytes_per_token)}: give more kv_memory, or a "
                "smaller max_seq_len",
                "kv_memory",
            )
        longest = min(longest, max_seq_len)
    plan = PlannedMemory(
        weight_bytes=record.weight_bytes,
        kv_bytes=num_pages * page_bytes,
        logits_bytes=logits_bytes,
        activation_bytes=activation_bytes,
        available_bytes=available,
        num_pages=num_pages,
        page_size=record.page_size,
        max_seq_len=longest,
        model_max_seq_len=manifest.model.max_seq_len,
    )
    return _fitting(plan, manifest)


def _plan_vectors(
    manifest: Manifest,
    max_num_batched_tokens: int,
    max_seq_len: int | None,
    available: int,
    activation_bytes: int | None,
) -> PlannedMemory:
    """The plan of a model without a cache, in whose steps each sequence is whole."""
    record, model = manifest.memory, manifest.model
    width = 0 if model.vectors is None else model.vectors.width
    longest = min(model.max_seq_len, max_seq_len or model.max_seq_len)
    if activation_bytes is None:
        activation_bytes = max(max_num_batched_tokens, longest) * record.activation_bytes_per_token
    return PlannedMemory(
        weight_bytes=record.weight_bytes,
        kv_bytes=0,
        logits_bytes=max_num_batched_tokens * width * _LOGIT_BYTES,
        activation_bytes=activation_bytes,
        available_bytes=available,
        num_pages=0,
        page_size=record.page_size,
        max_seq_len=longest,
        model_max_seq_len=model.max_seq_len,
    )


def _fitting(plan: PlannedMemory, manifest: Manifest) -> PlannedMemory:
    """``plan``; raises :class:`CapacityError` where it takes more memory than there is."""
    if plan.total_bytes > plan.available_bytes:
        parts = ", ".join(f"{name} {format_size(size)}" for name, size in plan.parts.items())
        missing = format_size(plan.total_bytes - plan.available_bytes)
        raise CapacityError(
            f"{manifest.model.name} takes {format_size(plan.total_bytes)} of memory ({parts}), and "
            f"{format_size(plan.available_bytes)} can be had, {missing} too little: give less kv_memory, "
            "smaller steps (max_num_batched_tokens), or the machine more memory",
            "kv_memory",
        )
    return plan


def _does_not_fit(manifest: Manifest, num_other_bytes: int, available: int) -> CapacityError:
    """What to say where a model finds no room even for steps over a single page."""
    weight_bytes = manifest.memory.weight_bytes
    missing = weight_bytes + num_other_bytes - available
    advice = ["smaller steps (max_num_batched_tokens)", "more memory"]
    of_int4 = int(manifest.model.num_parameters * _INT4_BYTES)
    if weight_bytes - of_int4 >= missing:
        advice.insert(0, f"fewer bits a weight (--quant int4 would be about {format_size(of_int4)})")
    return CapacityError(
        f"{manifest.model.name} does not fit: weights take {format_size(weight_bytes)}, steps "
        f"{format_size(num_other_bytes)} beside them, and {format_size(available)} can be had, "
        f"{format_size(missing)} too little; what helps is {', or '.join(advice)}"
    )


def _num_pages(manifest: Manifest, kv_memory: int | None, max_num_seqs: int, most_bytes: int) -> int:
    """Pages that ``kv_memory`` bytes hold, or as many as are of use and ``most_bytes`` hold."""
    record = manifest.memory
    page_bytes = record.kv_bytes_per_token * record.page_size
    of_use = max_num_seqs * -(-manifest.model.max_seq_len // record.page_size)
    if kv_memory is None:
        kv_memory = max(min(of_use * page_bytes, most_bytes), page_bytes)
    if kv_memory < page_bytes:
        raise CapacityError(
            f"{kv_memory} bytes hold no page of keys and values, which takes {page_bytes} "
            f"({record.page_size} tokens of {record.kv_bytes_per_token} bytes)",
            "kv_memory",
        )
    return min(of_use, kv_memory // page_bytes)
