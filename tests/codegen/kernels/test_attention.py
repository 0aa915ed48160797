"""Attention over pages on every machine, against the interpreter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingot.codegen.kernels.append import append_to_pages
from ingot.codegen.kernels.attention import AttentionShape, paged_attention
from ingot.codegen.kernels.cache import CachedHeads, CodedElement, FloatElement
from ingot.codegen.kernels.rows import Rows
from ingot.ir import Array, QuantizedArray, find_format, find_operator, quantize

from .machines import Kernel, Machine, filled

FLOAT32, FLOAT16, BFLOAT16 = FloatElement("float32"), FloatElement("float16"), FloatElement("bfloat16")
INT8, INT4 = CodedElement(8, 32, "float16"), CodedElement(4, 32, "float16")

PLAIN = AttentionShape(
    heads=6, kv_heads=2, head_dim=10, page_size=16, element=FLOAT32, scale=0.3, window=0, value_dim=10
)
LATENTS = replace(PLAIN, heads=6, kv_heads=1, head_dim=27, value_dim=20, values_of_keys=True)
SHAPES = {
    "plain": PLAIN,
    "float16, whole vectors": replace(PLAIN, head_dim=64, value_dim=64, element=FLOAT16, scale=0.125),
    "one query head a KV head": replace(
        PLAIN, heads=3, kv_heads=3, head_dim=17, value_dim=17, element=FLOAT16
    ),
    "four query heads a KV head": replace(
        PLAIN, heads=4, kv_heads=1, head_dim=80, value_dim=80, page_size=32
    ),
    "window": replace(PLAIN, heads=5, kv_heads=5, window=7, page_size=64, element=FLOAT16),
    "window of blocks": replace(PLAIN, head_dim=20, value_dim=20, window=100, page_size=32),
    "pages of several blocks": replace(PLAIN, head_dim=20, value_dim=20, page_size=128),
    "soft cap": replace(PLAIN, head_dim=20, value_dim=20, soft_cap=1.5, element=FLOAT16),
    "sinks": replace(PLAIN, has_sinks=True),
    "soft cap, sinks and a window": replace(PLAIN, soft_cap=0.7, has_sinks=True, window=70),
    "slopes, a soft cap and sinks": replace(
        PLAIN, slopes=(0.5, 0.25, 0.125, 0.07, 0.03, 0.003), soft_cap=1.5, has_sinks=True, element=FLOAT16
    ),
    "wide keys": replace(PLAIN, head_dim=21, value_dim=16),
    "wide values, sinks": replace(PLAIN, value_dim=37, has_sinks=True, window=70, element=FLOAT16),
    "many query heads a KV head": replace(PLAIN, heads=40, kv_heads=2, element=FLOAT16),
    "latents": replace(LATENTS, element=FLOAT16),
    "latents of many heads": replace(LATENTS, heads=33, page_size=128),
    "bfloat16": replace(PLAIN, element=BFLOAT16, has_sinks=True, window=70),
    "bfloat16, whole vectors": replace(PLAIN, head_dim=35, value_dim=64, element=BFLOAT16),
    "bfloat16, a window": replace(PLAIN, kv_heads=6, head_dim=64, value_dim=32, window=71, element=BFLOAT16),
    "latents in bfloat16": replace(LATENTS, element=BFLOAT16),
    "int8": replace(PLAIN, head_dim=64, value_dim=64, element=INT8),
    "int8, a scale a head": replace(PLAIN, element=CodedElement(8, 10, "float16"), window=70),
    "int4": replace(PLAIN, head_dim=64, value_dim=128, element=INT4, page_size=32),
    "int4, a scale a head": replace(PLAIN, element=CodedElement(4, 10, "float16"), page_size=128),
    "latents in int4": replace(LATENTS, head_dim=64, value_dim=32, element=INT4),
    "window of itself": replace(PLAIN, heads=2, kv_heads=1, head_dim=4, value_dim=4, window=1),
}
MIXED = [(1, 1), (5, 5), (1, 200), (23, 87), (1, 64), (9, 137), (1, 65), (2, 2), (64, 64), (3, 300), (2, 771)]
"""New tokens and context of each sequence."""
SLOW = (
    "four query heads a KV head",
    "window of blocks",
    "pages of several blocks",
    "soft cap",
    "sinks",
    "wide keys",
    "latents of many heads",
    "bfloat16, a window",
    "int8, a scale a head",
)
"""Left out by default: others have what they have, and more."""

Floats = npt.NDArray[np.float32]
STRIDE_MORE, OFFSET = 11, 3


@dataclass(frozen=True)
class Batch:
    """Rows of queries, caches whose pages are in no order, and the batch's description."""

    q: Floats
    keys: Array
    values: Array
    starts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    table: npt.NDArray[np.int32]
    sinks: tuple[Floats, ...]

    def only(self, sequence: int, rows: slice) -> Batch:
        """One sequence, and of its new tokens those of ``rows``, as when it had come so far alone."""
        start, end = self.starts[sequence], self.starts[sequence + 1]
        count = len(range(*rows.indices(end - start)))
        length = self.lengths[sequence] - (end - start) + rows.indices(end - start)[1]
        return replace(
            self,
            q=self.q[start:end][rows],
            starts=np.array([0, count], np.int32),
            lengths=np.array([length], np.int32),
            table=self.table[sequence : sequence + 1],
        )


def make_batch(shape: AttentionShape, sequences: list[tuple[int, int]]) -> Batch:
    """What no token has written is NaN, or has a scale that is."""
    random = np.random.default_rng(len(sequences))
    counts, lengths = (np.array(column, np.int32) for column in zip(*sequences, strict=True))
    widths = -(-lengths // shape.page_size)
    pages = int(widths.sum()) + 3
    numbers = iter(random.permutation(pages).tolist())
    table = np.zeros((len(sequences), int(widths.max()) + 1), np.int32)
    keys, values = (
        np.full((pages, shape.kv_heads, shape.page_size, dim), np.nan, np.float32)
        for dim in (shape.head_dim, shape.value_dim)
    )
    for row, (length, width) in enumerate(zip(lengths, widths, strict=True)):
        table[row, :width] = [next(numbers) for _ in range(width)]
        for cache in (keys, values):
            rows = random.standard_normal((length, shape.kv_heads, cache.shape[3]))
            for position, written in enumerate(rows):
                cache[table[row, position // shape.page_size], :, position % shape.page_size] = written
    q = random.standard_normal((int(counts.sum()), shape.heads, shape.head_dim)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    sinks = (random.standard_normal(shape.heads, np.float32) * 3,) if shape.has_sinks else ()
    kept = (made_of(shape.element, cache) for cache in (keys, values))
    return Batch(q, *kept, starts, lengths, table, sinks)


def made_of(element: FloatElement | CodedElement, cache: Floats) -> Array:
    """A cache of floats as one of ``element``, as the interpreter has it."""
    if isinstance(element, FloatElement):
        return cache.astype(element.dtype if element.dtype != "bfloat16" else ml_dtypes.bfloat16)
    group = "row" if element.group_size == cache.shape[3] else f"g{element.group_size}"
    known = np.nan_to_num(cache)
    kept = quantize(known, find_format(f"dynamic_int{element.bits}_{group}_f16"))
    kept.scales[np.isnan(cache[..., 0])] = np.nan
    return kept


def as_stored(cache: Array, heads: CachedHeads) -> list[np.ndarray]:
    """The arrays of a cache, as kernels have them."""
    if heads.element == BFLOAT16:
        return [in_pairs(np.asarray(cache).view(np.uint16), by_column=heads.by_column)]
    if not isinstance(cache, QuantizedArray):
        arrays = [cache]
    elif heads.element.bits == 8:
        arrays = [cache.codes, cache.scales]
    else:
        low, high = np.split((cache.codes + 8).astype(np.uint8), 2, axis=-1)
        arrays = [low | high << 4, cache.scales]
    return [np.ascontiguousarray(a.transpose(0, 1, 3, 2)) if heads.by_column else a.copy() for a in arrays]


def in_pairs(bits: np.ndarray, *, by_column: bool) -> np.ndarray:
    """Bits of bfloat16 ``[pages, heads, positions, dim]``, two columns or two positions side by side."""
    pages, heads, positions, dim = bits.shape
    if not by_column:
        pairs = bits.reshape(pages, heads, positions // 2, 2, dim).transpose(0, 1, 2, 4, 3)
        return pairs.reshape(pages, heads, positions // 2, 2 * dim).copy()
    bits = np.concatenate([bits, np.zeros_like(bits[..., : dim % 2])], axis=-1)
    pairs = bits.reshape(pages, heads, positions, -1, 2).transpose(0, 1, 3, 2, 4)
    return pairs.reshape(pages, heads, -1, 2 * positions).copy()


def meaning(shape: AttentionShape, batch: Batch) -> Floats:
    if shape.values_of_keys:
        (result,) = find_operator("paged_latent_attention").evaluate(
            [batch.q, batch.keys, batch.starts, batch.lengths, batch.table],
            {"scale": shape.scale, "value_dim": shape.value_dim},
            {},
        )
        return np.asarray(result)
    slopes = {"slopes": np.array(shape.slopes, np.float32)} if shape.slopes else {}
    (result,) = find_operator("paged_attention").evaluate(
        [batch.q, batch.keys, batch.values, batch.starts, batch.lengths, batch.table, *batch.sinks],
        {"scale": shape.scale, "soft_cap": shape.soft_cap, "window": shape.window, **slopes},
        {},
    )
    return np.asarray(result)


def run(kernel: Kernel, shape: AttentionShape, batch: Batch) -> Floats:
    width = batch.q.shape[1] * batch.q.shape[2]
    q = np.full((len(batch.q), width + STRIDE_MORE), np.nan, np.float32)
    q[:, OFFSET : OFFSET + width] = batch.q.reshape(len(q), -1)
    out = filled((len(q), shape.heads * shape.value_dim), "float32")
    keys = as_stored(batch.keys, shape.keys)
    values = () if shape.values_of_keys else as_stored(batch.values, shape.values)
    kernel(q, *keys, *values, batch.starts, batch.lengths, batch.table, *batch.sinks, out)
    return out.reshape(len(q), shape.heads, shape.value_dim)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SHAPES],
)
def shape(request: pytest.FixtureRequest) -> AttentionShape:
    return SHAPES[request.param]


@pytest.fixture(scope="module")
def kernel(machine: Machine, shape: AttentionShape) -> Kernel:
    width = shape.heads * shape.head_dim
    view = Rows(width, width + STRIDE_MORE, OFFSET)
    return machine.build(paged_attention(machine.isa, "kernel", shape, view))


def test_mixtures_of_prefill_and_decode(kernel: Kernel, shape: AttentionShape) -> None:
    batch = make_batch(shape, MIXED)
    np.testing.assert_allclose(run(kernel, shape, batch), meaning(shape, batch), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 17])
def test_every_number_of_decoding_sequences(kernel: Kernel, shape: AttentionShape, count: int) -> None:
    batch = make_batch(shape, [(1, 1 + 37 * index % 130) for index in range(count)])
    np.testing.assert_allclose(run(kernel, shape, batch), meaning(shape, batch), rtol=2e-5, atol=1e-5)


def test_no_bit_depends_on_the_batch(kernel: Kernel, shape: AttentionShape) -> None:
    batch = make_batch(shape, MIXED)
    together = run(kernel, shape, batch)
    for sequence in range(len(MIXED)):
        rows = together[batch.starts[sequence] : batch.starts[sequence + 1]]
        np.testing.assert_array_equal(run(kernel, shape, batch.only(sequence, slice(None))), rows)
        middle = len(rows) // 2
        if middle:
            np.testing.assert_array_equal(
                run(kernel, shape, batch.only(sequence, slice(middle))), rows[:middle]
            )
        np.testing.assert_array_equal(
            run(kernel, shape, batch.only(sequence, slice(middle, None))), rows[middle:]
        )


def test_large_scores_overflow_nothing(kernel: Kernel, shape: AttentionShape) -> None:
    batch = make_batch(shape, MIXED)
    batch = replace(batch, q=batch.q * 1000)
    np.testing.assert_allclose(run(kernel, shape, batch), meaning(shape, batch), rtol=1e-3, atol=1e-3)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.integers(0, 140)).map(lambda pair: (pair[0], sum(pair))),
        min_size=1,
        max_size=6,
    )
)
def test_any_batch(kernel: Kernel, shape: AttentionShape, sequences: list[tuple[int, int]]) -> None:
    batch = make_batch(shape, sequences)
    together = run(kernel, shape, batch)
    np.testing.assert_allclose(together, meaning(shape, batch), rtol=2e-5, atol=1e-5)
    last = len(sequences) - 1
    alone = run(kernel, shape, batch.only(last, slice(None)))
    np.testing.assert_array_equal(alone, together[batch.starts[last] :])


@pytest.mark.parametrize("element", [FLOAT32, FLOAT16, BFLOAT16, INT8, INT4, None], ids=str)
@pytest.mark.parametrize(
    ("kv_heads", "head_dim", "value_dim", "page_size"),
    [(2, 10, 10, 16), (3, 64, 64, 32), (1, 19, 19, 64), (2, 10, 128, 16)],
)
def test_keys_and_values_reach_their_slots(
    machine: Machine,
    element: FloatElement | CodedElement | None,
    kv_heads: int,
    head_dim: int,
    value_dim: int,
    page_size: int,
) -> None:
    pages, num_rows = 4, 9
    dims = head_dim, value_dim
    if isinstance(element, CodedElement) and any(dim % 64 for dim in dims):
        return  # groups do not fit
    widths = [kv_heads * dim for dim in dims]
    views = Rows(widths[0], 3 * widths[0], widths[0]), Rows(widths[1], widths[1] + 1, 1)
    elements = [element or CodedElement(8, dim, "float16") for dim in dims]
    heads = [
        CachedHeads(own, kv_heads, dim, page_size, by_column=index == 0)
        for index, (own, dim) in enumerate(zip(elements, dims, strict=True))
    ]
    kernel = machine.build(append_to_pages(machine.isa, "kernel", *zip(heads, views, strict=True)))
    random = np.random.default_rng(3)
    rows = [random.standard_normal((num_rows, view.stride), np.float32) for view in views]
    slots = random.permutation(pages * page_size)[:num_rows].astype(np.int32)
    caches = [
        made_of(own, random.standard_normal((pages, kv_heads, page_size, dim)).astype(np.float32))
        for own, dim in zip(elements, dims, strict=True)
    ]
    k, v = (
        row[:, view.offset : view.offset + view.width].reshape(num_rows, kv_heads, -1)
        for row, view in zip(rows, views, strict=True)
    )
    expected = find_operator("append_kv").evaluate([*caches, k, v, slots], {}, {})
    stored = [as_stored(cache, own) for cache, own in zip(caches, heads, strict=True)]
    kernel(*stored[0], *stored[1], *rows, slots)
    for arrays, cache, own in zip(stored, expected, heads, strict=True):
        for array, wanted in zip(arrays, as_stored(cache, own), strict=True):
            np.testing.assert_array_equal(array, wanted)
