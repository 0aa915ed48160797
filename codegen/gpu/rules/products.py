"""Rows times weights: for few rows here, for many as the machine does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ....ir import Operation, QuantFormat, ScalarType, Value
from ....ir.errors import CompileError
from ....targets.launch_plan import Argument, Bound, Size
from ...kernels.layout import BLOCK, num_blocks
from ...kernels.rows import Rows
from ...lowering.step import width_of
from ..formats import coded_type
from ..planning import ACTIVATIONS, Codes, Planning, Rule, row_type, size_of
from .pairs import Pairs

__all__ = ["FEW_ROWS", "RULES", "Gate", "Product", "Tiles", "Weights", "multiply", "weights_of"]

FEW_ROWS = 16
"""Rows up to which a product is bound by reading the weights."""

_ROWS_AT_ONCE = 4

_WARPS, _MOST_WARPS, _ENOUGH_WARPS = 4, 16, 2048
"""Warps of a block: more share its outputs until there are enough to keep a large GPU's memory busy."""

_ELEMENTS = {
    "float32": ("float", "Float32"),
    "float16": ("unsigned short", "Float16"),
    "uint16": ("unsigned short", "BFloat16"),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """A matrix as kernels take it: C++ arguments, and the value made of them.

    ``format`` is that of codes; floats ``is_half`` or not.
    """

    arguments: tuple[tuple[str, Argument], ...]
    value: str
    type: str
    is_half: bool = False
    format: QuantFormat | None = None


@dataclass(frozen=True, slots=True)
class Tiles:
    """Which rows the blocks of a product take: statements that make ``tile``, and what they are given.

    ``grid`` is a product's second and third dimension; the first goes through blocks of outputs.
    """

    setup: str
    arguments: tuple[tuple[str, Argument], ...]
    grid: tuple[Size, ...]


TilesOf: TypeAlias = "Callable[[int, Bound], Tiles]"
"""Tiles of up to so many rows, for a kernel that is launched within a bound."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What is made of a product's results and of nothing else: one half activated, times the other."""

    activation: str
    result: Value


@dataclass(frozen=True, slots=True)
class Product:
    """Rows of floats, or of codes, times weights; kernels call them ``x``, ``row_scales``, ``bias``, ``out``.

    Attributes:
        arguments: of a kernel, the weights' and ``out`` among them.
        tiles_of: how rows are cut.
        rows: the symbol of how many there are.
        few: rows up to which it is bound by reading the weights.
        inputs: of each.
        outputs: of each.
        weights: see there.
        view: rows of floats as templates take them; empty for codes.
        row_group: how many codes of a row share a scale; zero for floats.
        has_bias: whether there is ``bias``.
        are_rounded: whether the rows' floats are those of bfloat16.
        heads: whose pieces of a row meet a matrix each; zero where rows are whole.
        pairs: of tokens and experts, where each meets the matrix of its expert.
        float8: the rows of floats as codes of floats of eight bits, where they were rounded to such.
        gate: what alone uses the results, which a machine may compute with them.
    """

    arguments: tuple[tuple[str, Argument], ...]
    tiles_of: TilesOf
    rows: str
    few: int
    inputs: int
    outputs: int
    weights: Weights
    view: str
    row_group: int
    has_bias: bool
    are_rounded: bool
    heads: int
    pairs: Pairs | None
    float8: Codes | None
    gate: Gate | None

    @property
    def num_matrices(self) -> int:
        """That a row meets."""
        return self.heads or (1 if self.pairs is None else self.pairs.count)

    @property
    def is_exact(self) -> bool:
        """Whether sums are whole numbers until the end: rows of both are, times one scale."""
        found = self.weights.format
        return found is not None and found.is_whole_by_row and self.row_group == self.inputs

    @property
    def flags(self) -> str:
        """``HAS_BIAS`` of the templates."""
        return str(self.has_bias).lower()

    @property
    def call(self) -> str:
        """What templates are given, after ``here`` and what the block shares."""
        rows = "x, row_scales" if self.row_group else "x"
        return f"tile, {rows}, {self.weights.value}, {'bias' if self.has_bias else 'nullptr'}, out);"

    def launch(
        self,
        planning: Planning,
        name: str,
        body: str,
        *,
        rows_at_once: int,
        blocks_at_once: int,
        threads: int,
        bound: Bound,
        waits_itself: bool = False,
    ) -> None:
        """Launch a kernel whose blocks take a tile and so many blocks of outputs; ``body`` has ``tile``."""
        tiles = self.tiles_of(rows_at_once, bound)
        planning.launch(
            name,
            tiles.setup + body,
            (*self.arguments, *tiles.arguments),
            (size_of(-(-num_blocks(self.outputs) // blocks_at_once)), *tiles.grid),
            threads,
            (bound,),
            waits_itself=waits_itself,
        )


def weights_of(planning: Planning, weight: Value) -> Weights:
    """How a product with a weight, or a look-up, sees it."""
    if weight not in planning.stored:
        raise CompileError(
            f"%{weight.name} ({weight.type}) is no parameter, as products on {planning.machine} need"
        )
    inputs, element = int(weight.type.shape[-1]), weight.type.element
    arrays = planning.stored[weight]
    if not isinstance(element, QuantFormat):
        ((part, array),) = arrays
        stored, name = _ELEMENTS[part.dtype]
        is_paired = str(len(part.shape) == 4).lower()
        kind = f"FloatWeights<{name}, {inputs}, {is_paired}>"
        return Weights(
            ((f"GLOBAL const {stored}* weights", array),),
            f"{kind}{{weights}}",
            kind,
            is_half=name != "Float32",
        )
    coded = coded_type(element, inputs)
    arguments = tuple((coded.parameters[part.suffix], array) for part, array in arrays)
    return Weights(arguments, coded.value, coded.name, format=element)


def _linear(planning: Planning, operation: Operation) -> None:
    x = operation.operands[0]
    region = planning.rounded.get(x) or planning.region(x)
    if not isinstance(region.rows, str):
        raise CompileError(
            f"linear (%{operation.result.name}) of a fixed number of rows has no kernel on {planning.machine}"
        )
    num_rows = ("int num_rows", Argument("symbol", region.rows))

    def tiles_of(rows_at_once: int, bound: Bound) -> Tiles:
        setup = f"RowsInOrder tile{{here.block_y() * {rows_at_once}, num_rows}}; "
        return Tiles(setup, (num_rows,), (size_of(region.rows, over=rows_at_once),))

    few = planning.machine.few_rows
    multiply(planning, operation, operation.operands[2:], tiles_of, few=few)


def multiply(
    planning: Planning,
    operation: Operation,
    biases: Sequence[Value],
    tiles_of: TilesOf,
    *,
    view: Rows | None = None,
    few: int = FEW_ROWS,
    lone: int = 1,
    are_bounded: bool = False,
    heads: int = 0,
    pairs: Pairs | None = None,
) -> None:
    """Rows times a matrix, or each times one of several of a weight ``[matrices, outputs, inputs]``.

    Args:
        planning: the step.
        operation: its first operands are the rows and the weight.
        biases: a bias, if there is one.
        tiles_of: how rows are cut.
        view: of rows of floats as tiles count them; that of the operand unless given.
        few: rows up to which reading the weights is what takes time.
        lone: rows up to which each has blocks of its own.
        are_bounded: tiles differ for few rows and for many, so that each kernel is for one of both.
        heads: see :class:`Product`.
        pairs: see :class:`Product`.
    """
    x, weight = operation.operands[:2]
    weights = weights_of(planning, weight)
    outputs, inputs = (int(dim) for dim in weight.type.shape[-2:])
    bias = [("GLOBAL const float* bias", planning.parameter(value)) for value in biases]
    row_view, row_group = "", 0
    if x in planning.rounded:
        codes = planning.rounded[x]
        rows, row_group = codes.rows, codes.group_size
        source = [
            ("GLOBAL const signed char* x", codes.codes),
            ("GLOBAL const float* row_scales", codes.scales),
        ]
    else:
        region = planning.region(x)
        rows, row_view = region.rows, row_type(view or region.view)
        row_view = f"Rounded{row_view}" if x in planning.unrounded else row_view
        source = [("GLOBAL const float* x", region.array)]
    out = planning.result(operation.result, rows, width_of(operation.result.type))
    arguments = (*source, *weights.arguments, *bias, ("GLOBAL float* out", out.array))
    product = Product(
        arguments,
        tiles_of,
        str(rows),
        few,
        inputs,
        outputs,
        weights,
        row_view,
        row_group,
        bool(bias),
        x.type.element is ScalarType.BFLOAT16,
        heads,
        pairs,
        planning.float8.get(x),
        _gate_behind(planning, operation),
    )
    has_many = planning.machine.multiply_many(planning, product)
    most = few if has_many or are_bounded else None
    # One row, which is what one who talks waits for, has a kernel of its own.
    kinds = [(1, Bound(product.rows, at_most=lone)), (_ROWS_AT_ONCE, Bound(product.rows, lone + 1, most))]
    if are_bounded and not has_many:
        kinds.append((_ROWS_AT_ONCE, Bound(product.rows, at_least=few + 1)))
    for rows_at_once, bound in kinds:
        product.launch(
            planning,
            "multiply_few",
            _multiply_few(product, rows_at_once),
            rows_at_once=rows_at_once,
            blocks_at_once=1,
            threads=32 * _warps(product),
            bound=bound,
            waits_itself=pairs is None,  # whose tiles are computed
        )


def _gate_behind(planning: Planning, operation: Operation) -> Gate | None:
    users = planning.graph.users.get(operation.result, ())
    if len(users) != 1 or users[0].operator not in ACTIVATIONS or operation.result in planning.graph.outputs:
        return None
    return Gate(ACTIVATIONS[users[0].operator], users[0].result)


def _warps(product: Product) -> int:
    """Of a block: each of them has 64 inputs at least."""
    warps = _WARPS
    while (
        warps < _MOST_WARPS
        and num_blocks(product.outputs) * product.num_matrices * warps < _ENOUGH_WARPS
        and product.inputs >= 128 * warps
    ):
        warps *= 2
    return warps


def _multiply_few(product: Product, rows_at_once: int) -> str:
    """A kernel's statements; of exact sums with offsets, those of rows' codes are a column more."""
    coded = product.weights.format
    sum_type = "int" if product.is_exact else "float"
    columns = BLOCK + (product.is_exact and coded is not None and coded.offset is not None)
    warps = _warps(product)
    parts = f"SHARED_ARRAY({sum_type}, parts, [{warps}][{rows_at_once}][{columns}]); "
    shape, name = f"{product.outputs}, {product.view}, {product.weights.type}", "multiply_few_decoded"
    if coded is None:
        shape, name = f"{product.inputs}, {shape}", "multiply_few"
    elif product.row_group:
        shape = f"{product.outputs}, {product.row_group}, {sum_type}, {columns}, {product.weights.type}"
        name = "multiply_few_codes"
    return f"{parts}{name}<{warps}, {rows_at_once}, {shape}, {product.flags}>(here, parts, {product.call}"


RULES: Mapping[str, Rule] = {"linear": _linear}
"""By operator."""

assert BLOCK == 16, "sources/formats.h has blocks of 16"
