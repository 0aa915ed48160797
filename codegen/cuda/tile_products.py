"""Products of many rows on tensor cores, over rows laid out as tiles: how they are cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from ...ir.quantization import Float8
from ...targets.launch_plan import Argument, Bound, Size
from ..gpu.planning import Planning, size_of
from ..gpu.rules.products import Gate, Product, Tiles
from ..kernels.layout import BLOCK, num_blocks

__all__ = ["multiply_in_tiles"]

_THREADS, _WARPS = 256, 8
_CHUNK_BYTES, _ALIGNMENT, _BARRIERS_BYTES = 128, 1024, 16
_MOST_STAGES, _MOST_STAGE_BYTES = 8, 200 << 10

ENOUGH_BLOCKS = 120
"""Blocks that keep a large GPU busy: an H200 has 132 multiprocessors."""

_ROWS_AND_DEPTHS = ((256, 1), (128, 2), (64, 3))
"""Rows of a block, and chunks of weights that it reads ahead: what a thread's 255 registers allow."""

_GATED_ROWS_AND_DEPTHS = ((128, 1), (64, 2))
"""The same where each warp has two blocks of outputs, of both halves of a gate."""

_MOST_SPLIT_ROWS = 64
"""Rows up to which the sums of a few outputs are split, so that enough blocks read the weights."""

_FEWEST_CHUNKS = 4
"""Of a part of a sum."""


_Arguments: TypeAlias = "tuple[tuple[str, Argument], ...]"


@dataclass(frozen=True, slots=True)
class _Factors:
    """A product's factors in C++: weights as ``fragments``, and ``copies`` of rows of ``element``.

    ``scales`` makes results of sums, which are of ``sum_type``, by blocks of ``most_rows`` at most. Rows of
    floats may be laid out ``for_codes``; of rows of codes the sums of ``sum_inputs`` may be wanted, and those
    of one scale a row are ``scaled_at_end``.
    """

    fragments: str
    element: str
    copies: int
    inputs_in_chunk: int
    scales: str
    sum_type: str
    most_rows: int = 256
    for_codes: bool = False
    sum_inputs: int = 0
    scaled_at_end: bool = False

    def chunks(self, inputs: int) -> int:
        """Into how many chunks a row is cut."""
        return -(-inputs // self.inputs_in_chunk)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Blocks of ``rows`` that read weights ``depth`` chunks ahead, of sums in ``split`` parts; and when."""

    rows: int
    depth: int
    split: int
    bound: Bound


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Rows as tiles, and of codes the scales of their groups and sums as products take them."""

    tiles: Argument
    scales: Argument
    sums: Argument


def multiply_in_tiles(planning: Planning, product: Product) -> bool:
    """Launch the product of more rows than ``product.few``, where tiles serve it; returns whether they do."""
    of_float8 = _as_codes(product)
    factors = None if of_float8 is None else _float8_factors(of_float8)
    factors = factors or _code_factors(product) or _half_factors(product) or _decoded_factors(product)
    product = of_float8 or product
    if factors is None:
        return False
    tiles, gate = _lay_out(planning, product, factors), _take_gate(planning, product, factors)
    for shape in _shapes(product, factors, gate):
        _launch(planning, product, factors, tiles, shape, gate)
    return True


def _take_gate(planning: Planning, product: Product, factors: _Factors) -> Gate | None:
    """The gate behind a product, which then is computed by itself for few rows only; None for none."""
    gate = product.gate
    if gate is None or product.heads or product.outputs % (2 * BLOCK):
        return None
    if product.row_group and factors.most_rows == 64:  # registers do not suffice
        return None
    planning.result(gate.result, product.rows, product.num_matrices * product.outputs // 2)
    planning.gated[gate.result] = Bound(product.rows, at_most=product.few)
    return gate


def _half_factors(product: Product) -> _Factors | None:
    if not product.weights.is_half or product.inputs % 2:
        return None
    element = "BFloat16" if "BFloat16" in product.weights.type else "Float16"
    copies = 1 if product.are_rounded and element == "BFloat16" else 2
    fragments = f"HalfFragments<{element}, {product.inputs}, {product.weights.type}>"
    return _Factors(fragments, element, copies, _CHUNK_BYTES // 2, "NoScales{}", "float")


def _code_factors(product: Product) -> _Factors | None:
    found, kind = product.weights.format, product.weights.type
    if found is None or not product.row_group or product.row_group % 32:
        return None
    size = found.group_size or product.inputs
    if not found.is_integer or size % 16 or (product.is_exact and found.offset is not None):
        return None
    fragments = f"CodeFragments<{kind}>"
    if product.is_exact:
        value = f"ScalesOfRows<{kind}>{{{product.weights.value}, row_scales}}"
        return _Factors(fragments, "Codes", 1, _CHUNK_BYTES, value, "int", scaled_at_end=True)
    scales, sums = f"ScalesOfGroups<{kind}, {product.row_group}>", "nullptr"
    sum_inputs = 0
    if found.offset is not None:
        sums, sum_inputs = "row_sums", 16 if size % 32 and not found.is_whole_by_row else 32
    value = f"{scales}{{{product.weights.value}, row_scales, {sums}}}"
    return _Factors(fragments, "Codes", 1, _CHUNK_BYTES, value, "float", most_rows=64, sum_inputs=sum_inputs)


def _as_codes(product: Product) -> Product | None:
    """The product with its rows as floats of eight bits, where these and weights are such."""
    found, rows = product.weights.format, product.float8
    if found is None or rows is None or product.heads or found.codes != Float8("float8_e4m3fn"):
        return None
    if found.offset is not None or (found.group_size or product.inputs) % 32 or rows.width != product.inputs:
        return None
    source = (("const signed char* x", rows.codes), ("const float* row_scales", rows.scales))
    return replace(product, arguments=(*source, *product.arguments[1:]), row_group=rows.group_size)


def _float8_factors(product: Product) -> _Factors:
    kind = product.weights.type
    value = f"ScalesOfFloat8<{kind}, {product.row_group}>{{{product.weights.value}, row_scales}}"
    found, inputs = product.weights.format, product.inputs
    is_of_rows = found is not None and product.row_group == inputs == (found.group_size or inputs)
    return _Factors(
        f"Float8Fragments<{kind}>",
        "Codes",
        1,
        _CHUNK_BYTES,
        value,
        "float",
        most_rows=128,
        scaled_at_end=is_of_rows,
    )


def _decoded_factors(product: Product) -> _Factors | None:
    """Rows of floats, and weights of codes, which become bfloat16."""
    found, kind = product.weights.format, product.weights.type
    if found is None or product.row_group or found.offset is not None:
        return None
    if (found.group_size or 32) % 32:
        return None
    is_half = found.is_integer or isinstance(found.codes, Float8)
    return _Factors(
        f"DecodedFragments<{kind}>",
        "BFloat16",
        2,
        _CHUNK_BYTES // 2,
        f"ScalesOfWeights<{kind}>{{{product.weights.value}}}",
        "float",
        most_rows=256 if is_half and found.group_size in (None, product.inputs) else 64,
        for_codes=True,
    )


def _shapes(product: Product, factors: _Factors, gate: Gate | None) -> Iterator[_Shape]:
    """Larger blocks for more rows, as soon as there are enough of them."""
    tiles, pairs = -(-num_blocks(product.outputs) // _WARPS) * max(product.heads, 1), product.pairs
    all_kinds = _ROWS_AND_DEPTHS if gate is None else _GATED_ROWS_AND_DEPTHS
    most_rows = factors.most_rows if gate is None or factors.most_rows == 256 else 64
    kinds = [kind for kind in all_kinds if kind[0] <= most_rows]
    most = None
    for rows, depth in kinds:
        least = product.few + 1 if rows == 64 else max(rows // 2, ENOUGH_BLOCKS * rows // tiles) + 1
        if pairs is not None and rows > 64:  # as soon as experts have so many
            least = max(product.few, rows * pairs.experts // pairs.count) + 1
        if rows > 64:
            yield _Shape(rows, depth, 1, Bound(product.rows, least, most))
            most = least - 1
    chunks, depth = factors.chunks(product.inputs), kinds[-1][1]
    if product.row_group and factors.most_rows == 64:  # nor for more that is read ahead
        depth = 1
    split = min(ENOUGH_BLOCKS // tiles, chunks // _FEWEST_CHUNKS)
    first = product.few + 1
    if split > 1 and pairs is None and not product.heads and gate is None:
        yield _Shape(64, depth, split, Bound(product.rows, first, _MOST_SPLIT_ROWS))
        first = _MOST_SPLIT_ROWS + 1
    yield _Shape(64, depth, 1, Bound(product.rows, first, most))


def _lay_out(planning: Planning, product: Product, factors: _Factors) -> _Tiles:
    """The rows as tiles, which several products may share."""
    source, _ = _divide(product)
    pairs = product.pairs and (product.pairs.chosen, product.pairs.each)
    key = (
        source,
        pairs,
        product.heads,
        product.view,
        factors.element,
        factors.copies,
        factors.for_codes,
        factors.sum_inputs,
    )
    if (found := planning.tiled.get(key)) is not None:
        return _Tiles(found[0], found[1], found[2])
    tiles = scales = sums = planning.new_array(
        _room(product, factors.chunks(product.inputs) * factors.copies * _CHUNK_BYTES), 1
    )
    arguments = [*source, ("unsigned char* tiles", tiles)]
    if product.row_group:
        # One row more where their number is odd.
        scales = planning.new_array(_room(product, 2 * product.inputs // product.row_group), 4)
        arguments += [("float* scales", scales)]
        given = "nullptr"
        if factors.sum_inputs:
            sums = planning.new_array(_room(product, 2 * product.inputs // factors.sum_inputs), 4)
            arguments, given = [*arguments, ("float* sums", sums)], "sums"
        shape = f"{product.inputs}, {product.row_group}, {factors.sum_inputs}"
        given = f"x, row_scales, tiles, scales, {given}"
        template = f"tile_codes<{_THREADS}, {shape}>"
    else:
        given = "x, tiles"
        template = (
            f"tile_rows<{_THREADS}, {product.view}, {factors.element}, {str(factors.copies == 2).lower()}, "
            f"{str(factors.for_codes).lower()}>"
        )
    bound = Bound(product.rows, at_least=product.few + 1)
    cut = _cut(planning, product, _ROWS_AND_DEPTHS[-1][0], bound)
    setup, grid = (
        "int row = here.block_x(); ",
        (size_of(product.rows), Size(), size_of(max(product.heads, 1))),
    )
    if product.pairs is not None:
        setup = "int row = tile.first_row + here.block_y(); if (row >= tile.end_row) return; "
        grid = cut.grid[0], size_of(_ROWS_AND_DEPTHS[-1][0]), Size()
    source_row = "tile.source(row)"
    if product.heads:
        if not product.row_group:  # whose rows are whole
            setup, source_row = f"{setup}x += here.block_z() * {product.inputs}; ", "row"
        setup += _of_head(product, factors, "scales", "sums")
    planning.launch(
        "tile_rows",
        f"{cut.setup}{setup}{template}(here, {given}, {source_row}, row, tile.num_rows);",
        [*arguments, *cut.arguments],
        grid,
        _THREADS,
        (bound,),
    )
    planning.tiled[key] = tiles, scales, sums
    return _Tiles(tiles, scales, sums)


def _of_head(product: Product, factors: _Factors, scales: str, sums: str) -> str:
    """Statements behind which tiles, and what is known of their groups, are those of a block's head."""
    num_bytes = factors.chunks(product.inputs) * factors.copies * _CHUNK_BYTES
    moved = [f"tiles += (int64)here.block_z() * num_rows * {num_bytes}; "]
    rows = "(num_rows + 1) / 2 * 2"
    if product.row_group and not (product.is_exact and scales == "row_scales"):
        groups = product.inputs // product.row_group
        moved.append(f"{scales} += (int64)here.block_z() * {groups} * ({rows}); ")
    if factors.sum_inputs:
        moved.append(f"{sums} += (int64)here.block_z() * {product.inputs // factors.sum_inputs} * ({rows}); ")
    return "".join(moved)


def _room(product: Product, times: int) -> Size:
    """Numbers of rows of tiles; those of each expert are a whole number of eight."""
    if product.pairs is None:
        return size_of(product.rows, times * max(product.heads, 1))
    return Size(product.pairs.count * times, (product.rows,), more=8 * (product.pairs.experts + 1) * times)


def _cut(planning: Planning, product: Product, rows: int, bound: Bound) -> Tiles:
    """What makes ``tile`` of up to so many rows, one for each block of the grid's first dimension."""
    pairs = product.pairs
    if pairs is None:
        num_rows = ("int num_rows", Argument("symbol", product.rows))
        kind, last = "TilesInOrder", ""
        if product.heads:
            kind = f"TilesOfHead<{product.heads}, {num_blocks(product.outputs)}>"
            last = ", here.block_z()"
        setup = f"{kind} tile{{here.block_x() * {rows}, num_rows, num_rows{last}}}; "
        return Tiles(setup, (num_rows,), (size_of(product.rows, over=rows),))
    # Which others may need for more rows.
    least = Bound(product.rows, at_least=bound.at_least)
    grouping = pairs.group(planning, rows, least, by_position=False)
    numbers = f"{pairs.each}, {pairs.experts}, {num_blocks(product.outputs)}"
    setup = (
        f"TilesOfPairs<{pairs.each}> tile = tile_of_pairs<{numbers}>"
        f"(order, groups, here.block_x(), num_rows * {pairs.count});\n"
        "  if (tile.first_row == tile.end_row) return;\n  "
    )
    arguments = (("const int* order", grouping.order), ("const int* groups", grouping.tiles), pairs.num_rows)
    return Tiles(setup, arguments, (grouping.num_tiles,))


def _launch(
    planning: Planning,
    product: Product,
    factors: _Factors,
    tiles: _Tiles,
    shape: _Shape,
    gate: Gate | None,
) -> None:
    """Launch the blocks of a shape, and what joins the parts of their sums."""
    source, others = _divide(product)
    scales = [("const float* row_scales", source[1][1] if factors.scaled_at_end else tiles.scales)]
    scales = scales if product.row_group else []
    if factors.sum_inputs:
        scales.append(("const float* row_sums", tiles.sums))
    bias, flags = "bias" if product.has_bias else "nullptr", product.flags
    *weights, out = others
    arguments = [("const unsigned char* tiles", tiles.tiles), *weights, *scales]
    cut, output_tiles = (
        _cut(planning, product, shape.rows, shape.bound),
        -(-num_blocks(product.outputs) // _WARPS),
    )
    numbers = f"{1 if gate is None else 2}, {shape.rows}, {shape.depth}, {factors.copies}, {shape.split}"
    template = f"multiply_many<{numbers}, {product.outputs}, {factors.fragments}, {flags}>"
    stage_bytes = shape.rows * _CHUNK_BYTES + _BARRIERS_BYTES
    stages = min(_MOST_STAGES, _MOST_STAGE_BYTES // stage_bytes)
    setup = _of_head(product, factors, "row_scales", "row_sums") if product.heads else ""
    given: tuple[str, Argument] = out
    made = "NoGate{}"
    if gate is not None:
        given, made = (out[0], planning.region(gate.result).array), f"GateOf<{gate.activation}>{{}}"
        output_tiles = -(-num_blocks(product.outputs // 2) // _WARPS)
    if shape.split > 1:
        parts = planning.new_array(size_of(product.rows, shape.split * product.outputs), 4)
        given = f"{factors.sum_type}* out", parts
    planning.launch(
        "multiply_many",
        f"DYNAMIC_SHARED(shared); {cut.setup}{setup}{template}"
        f"(here, shared, tile, tiles, {product.weights.value}, {factors.scales}, {bias}, {made}, out);",
        [*arguments, given, *cut.arguments],
        (*cut.grid, size_of(output_tiles), size_of(product.heads or shape.split)),
        _THREADS,
        (shape.bound,),
        shared_bytes=_ALIGNMENT + stages * stage_bytes,
        waits_itself=product.pairs is None,  # whose tiles are computed
    )
    if shape.split > 1:
        template = f"join_splits<{_THREADS}, {shape.split}, {product.outputs}, {flags}>"
        planning.launch(
            "join_splits",
            f"{template}(here, parts, {factors.scales}, {bias}, out, num_rows);",
            [(f"const {factors.sum_type}* parts", given[1]), *weights, *scales, out, *cut.arguments],
            (size_of(product.rows),),
            _THREADS,
            (shape.bound,),
        )


def _divide(product: Product) -> tuple[_Arguments, _Arguments]:
    """The arguments that are rows and their scales, and the others, of which the last is the result."""
    rows = 2 if product.row_group else 1
    return product.arguments[:rows], product.arguments[rows:]
