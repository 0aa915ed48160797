"""Operators over the paged KV cache (Kwon et al., 2023).

One layer's keys, and likewise its values, lie in pages: ``[pages, kv_heads, page_size, head_dim]``; a head of
values may be of another width. A slot is ``page * page_size + offset``. The ragged batch is described by
``sequence_starts`` int32 ``[sequences + 1]`` (where each sequence's tokens begin among ``tokens``),
``context_lengths`` int32 ``[sequences]`` (positions filled once this step's are written) and ``page_table``
int32 ``[sequences, pages_per_sequence]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType

import numpy as np
import numpy.typing as npt

from ..operator import Array, Attribute, operator
from ..quantization import Integers, QuantizedArray, quantize
from ..types import ScalarType, TensorType
from ._infer import FloatArray, as_float32, plain, require
from .fused import attend, require_sinks, require_slopes

__all__ = ["attend_pages", "can_be_cached", "require_batch", "write_slots"]


def _check_cache(cache: TensorType, rows: TensorType) -> None:
    fits = cache.rank == 4 and rows.rank == 3 and cache.shape[3] == rows.shape[2]
    require(fits, f"cache {cache} does not hold heads of {rows}")
    require(can_be_cached(cache), f"a cache is of floats, or of whole numbers with scales, not {cache}")


def _are_of_one_cache(k_cache: TensorType, v_cache: TensorType) -> bool:
    """Whether both differ in the elements of a head at most."""
    return v_cache.rank == 4 and v_cache == k_cache.with_shape(*k_cache.shape[:3], v_cache.shape[3])


def _infer_append(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    k_cache, v_cache, k, v, slots = types
    _check_cache(k_cache, k)
    require(
        _are_of_one_cache(k_cache, v_cache)
        and v == k.with_shape(*k.shape[:2], v.shape[2])
        and k_cache.shape[1] == k.shape[1]
        and v_cache.shape[3] == v.shape[2],
        f"{k_cache} and {v_cache} do not take {k} and {v}",
    )
    expected = TensorType((k.shape[0],), ScalarType.INT32)
    require(slots == expected, f"slots must be {expected}, not {slots}")
    return k_cache, v_cache


@operator("append_kv", _infer_append, operands=5)
def _append(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Write each token's keys and values ``[tokens, kv_heads, head_dim]`` into its slot."""
    k_cache, v_cache, k, v, slots = operands
    return write_slots(k_cache, k, slots), write_slots(v_cache, v, slots)


def can_be_cached(cache: TensorType) -> bool:
    """Whether a cache can be of such elements: floats, or signed codes with a scale in floats a group."""
    if isinstance(cache.element, ScalarType):
        return cache.element.is_float
    codes, scale = cache.element.codes, cache.element.scale
    signed = isinstance(codes, Integers) and codes.signed and codes.bits in (4, 8)
    return signed and cache.element.offset is None and scale.of is None and scale.integer_bits is None


def require_batch(starts: TensorType, lengths: TensorType, table: TensorType) -> None:
    """Raise unless these describe a ragged batch."""
    integers = all(t.element is ScalarType.INT32 for t in (starts, lengths, table))
    require(
        integers and (starts.rank, lengths.rank, table.rank) == (1, 1, 2), "the batch is described in int32"
    )
    require(lengths.shape[0] == table.shape[0], f"{lengths} and {table} are not of the same sequences")


def _infer_paged(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    q, k_cache, v_cache, starts, lengths, table, *sinks = types
    _check_cache(k_cache, q)
    require(_are_of_one_cache(k_cache, v_cache), f"the caches differ: {k_cache} and {v_cache}")
    require_batch(starts, lengths, table)
    require_sinks(sinks, q.shape[1])
    require_slopes(attributes, q.shape[1])
    return (q.with_shape(*q.shape[:2], v_cache.shape[3]),)


@operator(
    "paged_attention",
    _infer_paged,
    operands=(6, 7),
    scale=float,
    soft_cap=float,
    window=int,
    slopes=(np.ndarray, NoneType),
)
def _paged_attention(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Causal attention of each sequence's newest tokens over all of its pages; sinks may come last."""
    q, k_cache, v_cache = map(as_float32, operands[:3])
    sinks = as_float32(operands[6]) if len(operands) == 7 else None
    return (attend_pages(q, k_cache, v_cache, operands[3:6], sinks, attributes=attributes),)


def attend_pages(
    q: FloatArray,
    k_cache: FloatArray,
    v_cache: FloatArray,
    batch: Sequence[Array],
    sinks: FloatArray | None = None,
    *,
    attributes: Mapping[str, Attribute],
) -> FloatArray:
    """:func:`.fused.attend` for each sequence of ``batch``: starts, context lengths and page table."""
    starts, lengths, table = (plain(array).astype(np.int64) for array in batch)
    result = np.zeros((*q.shape[:2], v_cache.shape[3]), np.float32)
    page_size = k_cache.shape[2]
    for sequence, length in enumerate(lengths):
        first, last = starts[sequence], starts[sequence + 1]
        pages = table[sequence, : -(-length // page_size)]
        keys, values = (
            cache[pages].transpose(0, 2, 1, 3).reshape(-1, cache.shape[1], cache.shape[3])[:length]
            for cache in (k_cache, v_cache)
        )
        result[first:last] = attend(q[first:last], keys, values, sinks, attributes=attributes)
    return result


def write_slots(cache: Array, rows: Array, slots: Array) -> Array:
    """``cache`` with ``rows`` ``[tokens, kv_heads, head_dim]`` in their slots, rounded to its element."""
    if isinstance(cache, QuantizedArray):
        rounded = quantize(as_float32(rows), cache.format)
        written = {
            name: _written(array, rounded.components[name], slots) for name, array in cache.components.items()
        }
        return QuantizedArray(cache.format, **written)
    return _written(cache, plain(rows), slots)


def _written(
    cache: npt.NDArray[np.generic], rows: npt.NDArray[np.generic], slots: Array
) -> npt.NDArray[np.generic]:
    written = cache.copy()
    pages, offsets = np.divmod(plain(slots).astype(np.int64), cache.shape[2])
    written[pages, :, offsets] = rows.astype(cache.dtype)
    return written
