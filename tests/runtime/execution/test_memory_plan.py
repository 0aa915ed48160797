"""What serving takes in memory, planned from a manifest alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingot.ir.errors import CapacityError
from ingot.runtime.execution.memory_plan import PlannedMemory, plan_memory
from ingot.targets import Manifest
from ingot.targets.manifest import SCHEMA, MemoryPlan, ModelRecord

RECORD = MemoryPlan(
    weight_bytes=10_000,
    kv_bytes_per_token=100,
    activation_bytes_per_token=30,
    max_step_tokens=64,
    page_size=16,
)
MODEL = ModelRecord(
    name="little",
    architecture="none",
    vocab_size=50,
    num_layers=1,
    num_parameters=1,
    max_seq_len=1000,
    eos_token_ids=(0,),
)
MANIFEST = Manifest(
    schema=SCHEMA,
    ingot="0",
    toolchain={},
    model=MODEL,
    dtype="float32",
    quant="none",
    sources=(),
    passes=(),
    inputs=(),
    states=(),
    parameters=(),
    libraries=(),
    memory=RECORD,
    files=(),
)


def plan(
    *,
    kv_memory: int | None = 20_000,
    max_num_seqs: int = 4,
    max_num_batched_tokens: int = 32,
    max_seq_len: int | None = None,
    available_bytes: int = 10**6,
) -> PlannedMemory:
    return plan_memory(
        MANIFEST,
        kv_memory=kv_memory,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_seq_len=max_seq_len,
        available_bytes=available_bytes,
    )


def test_the_parts_are_what_the_manifest_says_they_are() -> None:
    planned = plan()
    assert planned.parts == {
        "weights": 10_000,
        "kv_pages": 12 * 1600,
        "logits": 32 * 50 * 4,
        "activations": 32 * 30,
    }
    assert planned.total_bytes == 10_000 + 19_200 + 6400 + 960
    assert (planned.num_pages, planned.num_kv_tokens, planned.max_seq_len) == (12, 192, 192)


def test_pages_beyond_use_are_not_taken() -> None:
    planned = plan(kv_memory=10**6, max_num_seqs=2, available_bytes=10**7)
    assert planned.num_pages == 2 * 63
    assert planned.max_seq_len == 1000


def test_without_a_size_pages_take_half_of_what_all_else_leaves() -> None:
    assert plan(kv_memory=None, available_bytes=50_000).kv_bytes == 10 * 1600
    assert plan(kv_memory=None, available_bytes=10**7).num_pages == 4 * 63


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kv_memory": 1599}, "1599 bytes hold no page of keys and values, which takes 1600"),
        ({"max_num_batched_tokens": 65}, "runs steps of up to 64 tokens"),
        ({"max_seq_len": 193}, r"holds 192 tokens .* less than a sequence of max_seq_len=193"),
        (
            {"available_bytes": 36_559},
            r"little takes 35.7 KiB of memory \(weights 9.8 KiB, kv_pages 18.8 KiB.* 1 B too little",
        ),
        (
            {"available_bytes": 18_000},
            r"little does not fit: weights take 9.8 KiB, steps 8.8 KiB beside them, and 17.6 KiB can be had, "
            r"960 B too little; what helps is fewer bits a weight \(--quant int4 would be about 0 B\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_numbers(asked: dict[str, int], said: str) -> None:
    with pytest.raises(CapacityError, match=said):
        plan(**asked)


def test_what_just_fits_is_taken() -> None:
    assert plan(available_bytes=36_560).total_bytes == 36_560
    assert plan(max_seq_len=192).max_seq_len == 192
    # More than the model can do is no more than the model can do.
    assert plan(kv_memory=110_000, max_num_seqs=1, max_seq_len=5000).max_seq_len == 1000


def test_the_table_has_every_part_and_says_what_falls_short() -> None:
    pages = "12 pages of 16 tokens, 192 tokens in all"
    longest = "the longest sequence is 192 tokens; the model could take 1000"
    assert list(plan().lines()) == [
        "  weights             9.8 KiB",
        f"  keys and values    18.8 KiB  {pages}; {longest}",
        "  logits              6.2 KiB",
        "  activations           960 B",
        "  together           35.7 KiB  of 976.6 KiB that can be had",
    ]
    assert "could take" not in "\n".join(plan(kv_memory=110_000).lines())


@given(
    kv_memory=st.one_of(st.none(), st.integers(1, 10**7)),
    max_num_seqs=st.integers(1, 100),
    max_num_batched_tokens=st.integers(1, 64),
    available_bytes=st.integers(0, 10**7),
    kv_bytes_per_token=st.integers(1, 10**4),
)
def test_a_plan_is_kept_or_refused(
    kv_memory: int | None,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    available_bytes: int,
    kv_bytes_per_token: int,
) -> None:
    record = msgspec.structs.replace(RECORD, kv_bytes_per_token=kv_bytes_per_token)
    try:
        planned = plan_memory(
            msgspec.structs.replace(MANIFEST, memory=record),
            kv_memory=kv_memory,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            available_bytes=available_bytes,
        )
    except CapacityError:
        return
    assert planned.total_bytes <= available_bytes
    assert 1 <= planned.num_pages <= max_num_seqs * 63
    assert kv_memory is None or planned.kv_bytes <= kv_memory
    # What the plan gives to keys and values, given back as a size, plans the same again.
    again = plan_memory(
        msgspec.structs.replace(MANIFEST, memory=record),
        kv_memory=planned.kv_bytes,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        available_bytes=available_bytes,
    )
    assert again == planned
