"""Which product of panels a machine has for a matrix, and from how many rows on it is worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from .code_products import finish_sums, load_bias
from .coded import CodedMatrix, CodedWeights
from .dot_panels import DotPanels
from .isa import Avx2Vnni, Avx512Vnni, Isa, NeonI8mm
from .layout import num_blocks
from .matrix_panels import MatrixPanels
from .panels import Panel, PanelProduct
from .row_codes import CodeRows
from .script import Buffer, Expr, T, Vector
from .widening import widen_block

__all__ = ["PanelChoice", "find_panels", "multiply_panels"]


@dataclass(frozen=True)
class PanelChoice:
    """A ``product`` for panels of ``blocks`` blocks, from ``least_rows`` rows on."""

    product: PanelProduct
    blocks: int
    least_rows: int


def find_panels(isa: Isa, matrix: CodedMatrix) -> PanelChoice | None:
    """None where rows are not whole numbers, or where the machine gains nothing by panels."""
    if not matrix.format.is_whole_by_row:
        return None
    if isinstance(isa, Avx512Vnni):
        return PanelChoice(DotPanels(isa, 8, 2), blocks=4, least_rows=16)
    if isinstance(isa, Avx2Vnni):
        return PanelChoice(DotPanels(isa, 6, 1), blocks=4, least_rows=16)
    if isinstance(isa, NeonI8mm):
        return PanelChoice(MatrixPanels(isa), blocks=4, least_rows=8)
    return None


def multiply_panels(
    isa: Isa,
    matrix: CodedMatrix,
    choice: PanelChoice,
    x: CodeRows,
    num_rows: Expr,
    weights: Sequence[Buffer],
    block_of: Callable[[Expr], Expr],
    number: Expr,
    finish: Callable[[Expr, Expr, list[Vector]], None],
    bias: Buffer | None = None,
) -> None:
    """Emit panel ``number`` of a matrix times all rows.

    ``block_of`` says where among ``weights`` a block of the matrix lies; ``finish`` is given a row, a block
    of the matrix and the 16 results, the same perhaps twice.
    """
    panel, last = Panel(choice.blocks, matrix.inputs), num_blocks(matrix.outputs) - 1
    memory = T.alloc_buffer((panel.num_bytes,), "uint8")

    def block_at(within: Expr) -> Expr:
        return tirx.min(number * panel.blocks + within, last)

    with T.serial(panel.blocks) as within:
        stored = block_of(block_at(within))
        widen_block(isa, matrix, weights, stored, panel, memory, within, choice.product.zero_point)
        choice.product.arrange(panel, memory, within)

    def finish_block(row: Expr, within: Expr, sums: list[Vector]) -> None:
        block = block_at(within)
        stored = block_of(block)
        biases = None if bias is None else load_bias(isa, bias, stored)
        reader = CodedWeights(isa, matrix, weights, stored)
        finish(row, block, finish_sums(isa, reader, x, row, sums, biases))

    choice.product.multiply(panel, memory, x, num_rows, finish_block)
