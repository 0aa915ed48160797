"""What is CUDA's own: its language, and products and attention on tensor cores."""

from __future__ import annotations

from pathlib import Path

from ...targets.launch_plan import Argument, Bound, Probe, Size
from ..gpu.kernel import DeviceFunction
from ..gpu.machine import Machine
from ..gpu.planning import PIECE, Planning, size_of
from ..gpu.rules.attention import Attention
from ..gpu.rules.products import Product
from . import latent, ragged
from .tile_products import multiply_in_tiles

__all__ = ["CUDA"]

_SOURCES = Path(__file__).with_name("sources")

_WARPS, _ROWS_AT_ONCE, _BLOCKS_AT_ONCE = 4, 32, 2
"""Of products of many rows: warps of a block, rows of each, and blocks of 16 outputs of each."""

_SCALED_INPUTS = 16
"""Inputs of one product on tensor cores, whose weights must share a scale."""

_LINES = 16
"""Heads of tokens that a block of attention takes, the rows of a tensor core's product."""

_CHAINS = 8
"""Products that a probe has under way in a warp."""

_FEW_TOKENS = 32
"""Tokens up to which contexts are cut into pieces, so that there is work for the whole device."""


def _write_kernel(function: DeviceFunction) -> str:
    wait = "" if function.waits_itself else "wait_for_launch_before(); "
    return (
        f"INGOT_KERNEL({function.threads}) {function.name}({', '.join(function.parameters)}) {{\n"
        f"  Here here;\n  let_next_launch_begin(); {wait}\n  {function.body}\n}}\n"
    )


def _multiply_many(planning: Planning, product: Product) -> bool:
    if multiply_in_tiles(planning, product):
        return True
    coded = product.weights.format
    if product.row_group:
        shape = f"{product.outputs}, {product.row_group}, {product.weights.type}, {product.flags}"
        template = f"multiply_many_codes<{_WARPS}, {shape}>"
    elif coded is not None and (coded.group_size or _SCALED_INPUTS) % _SCALED_INPUTS == 0:
        shape = f"{product.outputs}, {product.view}, {product.weights.type}, {product.flags}"
        template = f"multiply_many_decoded<{_WARPS}, {shape}>"
    elif product.weights.is_half and product.inputs % 2 == 0:
        shape = (
            f"{product.inputs}, {product.outputs}, {product.view}, {product.weights.type}, {product.flags}"
        )
        template = f"multiply_many<{_WARPS}, {shape}, false>"
    else:
        return False
    product.launch(
        planning,
        "multiply_many",
        f"{template}(here, {product.call}",
        rows_at_once=_ROWS_AT_ONCE,
        blocks_at_once=_WARPS * _BLOCKS_AT_ONCE,
        threads=32 * _WARPS,
        bound=Bound(product.rows, at_least=product.few + 1),
    )
    return True


def _tiles_of_cache(attention: Attention) -> str | None:
    """The type of what attention on tensor cores reads keys and values by, None where there is none."""
    keys, values = attention.keys, attention.values
    if keys.element:
        is_half = keys.element in ("Float16", "BFloat16")
        return (
            f"FloatTiles<{attention.shape}, {keys.element}>" if is_half and attention.dim % 2 == 0 else None
        )
    fits = attention.dim % 4 == 0 and all(
        pages.group_size == dim or pages.group_size % 16 == 0
        for pages, dim in ((keys, attention.dim), (values, attention.value_dim))
    )
    return f"CodedTiles<{attention.shape}, {keys.type}, {values.type}>" if fits else None


def _attend(planning: Planning, attention: Attention) -> bool:
    """A kernel of tiles: over whole contexts for many tokens, over pieces that are joined for few."""
    cache = _tiles_of_cache(attention)
    if cache is None or attention.page_size % 16:
        return False
    parameters = (*attention.keys.parameters, *attention.values.parameters)
    rows, group = attention.rows, attention.heads // attention.kv_heads
    at_once = min(group, _LINES)
    warps = 4 if attention.value_dim <= 128 else 2
    tokens = _LINES // at_once
    tiles, larger_tiles = (size_of(rows, over=over, plus=("sequences",)) for over in (tokens, tokens * warps))
    heads_at_once = size_of(attention.kv_heads * -(-group // at_once))
    width = -(-attention.value_dim // 8) * 8
    setup = attention.setup + (
        f"SHARED_ARRAY(float, joined, [{warps}][{_LINES}][{width}]); "
        f"SHARED_ARRAY(float, most_of, [{warps}][{_LINES}]); "
        f"SHARED_ARRAY(float, total_of, [{warps}][{_LINES}]); "
    )

    def tiles_of(piece: int) -> str:
        shape = f"{attention.shape}, {cache}, {attention.view}, {warps}, {piece}"
        results = "nullptr, piece_sums" if piece else "out, nullptr"
        return (
            f"{setup}{cache} cache{{{', '.join(parameters)}}}; attend_tiles<{shape}>"
            f"(here, joined, most_of, total_of, q, cache, batch, scores, {results}, num_rows);"
        )

    pieces = planning.new_array(
        Size(attention.heads * (attention.value_dim + 2) * _FEW_TOKENS, ("pieces",)), 4
    )
    num_rows = ("int num_rows", Argument("symbol", rows))
    few, many = (Bound(rows, at_most=_FEW_TOKENS),), (Bound(rows, at_least=_FEW_TOKENS + 1),)
    planning.launch(
        "attend_pieces",
        tiles_of(PIECE),
        [*attention.before, ("float* piece_sums", pieces), num_rows],
        (tiles, heads_at_once, Size(1, ("pieces",))),
        32 * warps,
        few,
    )
    planning.launch(
        "join_pieces",
        f"{attention.setup}join_pieces<{attention.shape}, 64, {PIECE}>"
        "(here, piece_sums, batch, scores, out, num_rows);",
        [("GLOBAL const float* piece_sums", pieces), *attention.before, attention.out, num_rows],
        (size_of(rows), size_of(attention.heads)),
        64,
        few,
    )
    planning.launch(
        "attend_tiles",
        tiles_of(0),
        [*attention.before, attention.out, num_rows],
        (larger_tiles, heads_at_once),
        32 * warps,
        many,
    )
    return True


def _plan_probes(planning: Planning) -> tuple[Probe, ...]:
    """Products of m16n8k16 and m16n8k32 on registers."""
    return tuple(
        _products(planning, name, template, inputs)
        for name, template, inputs in (("bfloat16", "BFloat16Products", 16), ("int8", "Int8Products", 32))
    )


def _products(planning: Planning, name: str, template: str, inputs: int) -> Probe:
    out = planning.new_array(Size(32 * _WARPS), 4)
    planning.launch(
        f"probe_{name}",
        f"probe_products<{template}, {_CHAINS}>(here, out, num_rounds);",
        [("GLOBAL float* out", out), ("int num_rounds", Argument("symbol", "rounds"))],
        (Size(1, ("blocks",)),),
        32 * _WARPS,
    )
    operations = _WARPS * _CHAINS * 2 * 16 * 8 * inputs
    return Probe(name, planning.take_group(), Size(operations, ("blocks", "rounds")))


CUDA = Machine(
    name="CUDA",
    header=_SOURCES / "machine.cuh",
    sources=(
        _SOURCES / "tensor_products.cuh",
        _SOURCES / "tiles.cuh",
        _SOURCES / "fragments.cuh",
        _SOURCES / "tile_products.cuh",
        _SOURCES / "tensor_attention.cuh",
        _SOURCES / "coded_attention.cuh",
        _SOURCES / "tensor_latent.cuh",
        _SOURCES / "tensor_ragged.cuh",
        _SOURCES / "tensor_probes.cuh",
    ),
    write_kernel=_write_kernel,
    rules={**latent.RULES, **ragged.RULES},
    multiply_many=_multiply_many,
    attend=_attend,
    few_rows=8,
    joins_rows=True,
    rounds_rows=True,
    plan_probes=_plan_probes,
)
"""NVIDIA GPUs."""
