"""Latent attention over pages on the emulation, against the interpreter."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from ingot.ir import (
    Array,
    GraphBuilder,
    QuantFormat,
    QuantizedArray,
    ScalarType,
    evaluate,
    find_format,
    quantize,
)
from ingot.ir.types import Element

from .emulated import needs_compiler
from .steps import EmulatedStep

pytestmark = needs_compiler

PAGE_SIZE = 16
FEW, SOME, MANY = ((1, 530), (2, 3)), ((1, 5), (3, 3), (2, 530)), ((33, 50), (1, 7))
"""Sequences: new tokens, and the context with them; one goes over several pieces."""


@dataclass(frozen=True)
class Latents:
    element: Element
    heads: int
    dim: int
    value_dim: int


ATTENTIONS = (
    Latents(ScalarType.FLOAT32, heads=9, dim=34, value_dim=26),
    Latents(ScalarType.BFLOAT16, heads=20, dim=136, value_dim=128),
    Latents(find_format("dynamic_int8_row_f16"), heads=3, dim=35, value_dim=20),
    Latents(ScalarType.FLOAT16, heads=3, dim=40, value_dim=24),
    Latents(find_format("dynamic_int4_g32_f16"), heads=3, dim=64, value_dim=20),
)


@pytest.mark.parametrize(
    "one",
    [
        *ATTENTIONS[:3],
        *(pytest.param(one, marks=pytest.mark.slow) for one in ATTENTIONS[3:]),
    ],
    ids=lambda one: one.element.name,
)
def test_attention_is_that_of_the_interpreter(one: Latents) -> None:
    builder, random = GraphBuilder(), np.random.default_rng(5)
    described = [
        builder.input(name, shape, ScalarType.INT32)
        for name, shape in (
            ("sequence_starts", ["sequence_bounds"]),
            ("context_lengths", ["sequences"]),
            ("page_table", ["sequences", "pages_per_sequence"]),
        )
    ]
    slots = builder.input("slots", ["tokens"], ScalarType.INT32)
    rows = builder.input("rows", ["tokens", one.dim + 3], ScalarType.FLOAT32)
    queries = builder.input("queries", ["tokens", one.heads, one.dim], ScalarType.FLOAT32)
    cache = builder.state("cache", ["pages", 1, PAGE_SIZE, one.dim], one.element)
    latents = builder.emit("slice", rows, axis=1, start=3, stop=3 + one.dim)
    written = builder.emit("append_latents", cache, latents, slots)
    attended = builder.emit(
        "paged_latent_attention", queries, written, *described, scale=one.dim**-0.5, value_dim=one.value_dim
    )
    graph = builder.build(attended, written)
    step = EmulatedStep(graph)
    for sequences in (FEW, SOME, MANY):
        arrays = batch(sequences, random)
        tokens = len(arrays["slots"])
        shape = int(arrays["page_table"].max()) + 1, 1, PAGE_SIZE, one.dim
        floats = random.standard_normal(shape).astype(np.float32)
        pages = made_of(one.element, floats)
        arrays["rows"] = random.standard_normal((tokens, one.dim + 3)).astype(np.float32)
        arrays["queries"] = random.standard_normal((tokens, one.heads, one.dim)).astype(np.float32)
        expected = evaluate(graph, {**arrays, "cache": pages})
        device = as_kept(forgotten(pages, arrays))
        symbols = {
            "tokens": tokens,
            "sequences": len(sequences),
            "pages_per_sequence": arrays["page_table"].shape[1],
            "pieces": -(-max(context for _, context in sequences) // 512),
        }
        found = step.run({**arrays, **device}, symbols)
        np.testing.assert_allclose(found, np.reshape(expected[0], found.shape), rtol=0, atol=2e-5)
        for name, array in as_kept(expected[1]).items():
            places = (arrays["slots"] // PAGE_SIZE, 0, arrays["slots"] % PAGE_SIZE)
            assert np.array_equal(device[name][places], array[places])


def made_of(element: Element, floats: npt.NDArray[np.float32]) -> Array:
    if isinstance(element, QuantFormat):
        return quantize(floats, element)
    return floats.astype(ml_dtypes.bfloat16 if element is ScalarType.BFLOAT16 else element.value)


def as_kept(pages: Array) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of a cache on a device, by name."""
    if not isinstance(pages, QuantizedArray):
        return {"cache": pages.view(np.uint16) if pages.dtype == ml_dtypes.bfloat16 else pages.copy()}
    bits = pages.format.bits
    whole = (pages.codes.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    if bits == 4:
        whole = whole[..., ::2] | whole[..., 1::2] << np.uint8(4)
    return {"cache.codes": whole, "cache.scales": pages.scales.copy()}


def batch(
    sequences: tuple[tuple[int, int], ...], random: np.random.Generator
) -> dict[str, npt.NDArray[np.generic]]:
    """Sequences on pages in no order."""
    counts = [-(-context // PAGE_SIZE) for _, context in sequences]
    free = list(random.permutation(sum(counts)))
    table = np.zeros((len(sequences), max(counts)), np.int32)
    slots = []
    for number, (tokens, context) in enumerate(sequences):
        table[number, : counts[number]] = [free.pop() for _ in range(counts[number])]
        positions = np.arange(context - tokens, context)
        slots.append(table[number, positions // PAGE_SIZE] * PAGE_SIZE + positions % PAGE_SIZE)
    return {
        "sequence_starts": np.cumsum([0, *(tokens for tokens, _ in sequences)]).astype(np.int32),
        "context_lengths": np.array([context for _, context in sequences], np.int32),
        "page_table": table,
        "slots": np.concatenate(slots).astype(np.int32),
    }


def forgotten(pages: Array, arrays: dict[str, npt.NDArray[np.generic]]) -> Array:
    """Pages of which what was never written is no number."""
    if isinstance(pages, QuantizedArray):
        return QuantizedArray(pages.format, pages.codes, forgotten(pages.scales, arrays))
    result = np.full_like(pages, np.nan)
    for table, context in zip(arrays["page_table"], arrays["context_lengths"], strict=True):
        for position in range(int(context)):
            page = table[position // PAGE_SIZE]
            result[page, 0, position % PAGE_SIZE] = pages[page, 0, position % PAGE_SIZE]
    return result
