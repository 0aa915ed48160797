"""Matrices by panels: which product a machine has for them, from how many rows on, and how it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from .code_products import finish_sums, load_bias
from .coded import CodedMatrix, CodedWeights
from .dot_panels import DotPanels
from .isa import Avx2, Avx2Vnni, Avx512Amx, Avx512Vnni, Isa, NeonDotProduct, NeonI8mm
from .layout import SPAN, num_blocks
from .matrix_panels import MatrixPanels
from .panels import PanelProduct
from .row_codes import CodeRows
from .script import Buffer, Expr, T, Vector
from .small_panels import SmallPanels
from .tile_panels import TilePanels
from .tiling import find_tiling

__all__ = ["PanelChoice", "find_panels"]


@dataclass(frozen=True)
class PanelChoice:
    """A ``product`` for panels of ``blocks`` blocks, from ``least_rows`` rows on."""

    product: PanelProduct
    blocks: int
    least_rows: int

    def count(self, outputs: int) -> int:
        """Panels of a matrix."""
        return -(-num_blocks(outputs) // self.blocks)

    def memory(self, inputs: int) -> Buffer:
        """What a worker writes its panels to."""
        return T.alloc_buffer((self.product.panel(self.blocks, inputs).num_bytes,), "uint8")

    def multiply(
        self,
        isa: Isa,
        matrix: CodedMatrix,
        x: CodeRows,
        num_rows: Expr,
        weights: Sequence[Buffer],
        place: tuple[Expr, Expr],
        memory: Buffer,
        finish: Callable[[Expr, Expr, list[Vector]], None],
        bias: Buffer | None = None,
    ) -> None:
        """Emit one panel times all rows.

        ``place`` is the panel's number, and the block among ``weights`` that is the matrix' first. ``finish``
        is given a row, a block of the matrix and the 16 results, the same perhaps twice.
        """
        (number, first), last = place, num_blocks(matrix.outputs) - 1
        panel = self.product.panel(self.blocks, matrix.inputs)

        def block_at(within: Expr) -> Expr:
            return tirx.min(number * panel.blocks + within, last)

        with T.serial(panel.blocks) as within:
            reader = CodedWeights(isa, matrix, weights, first + block_at(within))
            self.product.write(reader, panel, memory, within)

        def finish_block(row: Expr, within: Expr, sums: list[Vector]) -> None:
            block = block_at(within)
            biases = None if bias is None else load_bias(isa, bias, first + block)
            reader = CodedWeights(isa, matrix, weights, first + block)
            finish(row, block, finish_sums(reader, x, row, sums, biases))

        self.product.multiply(panel, memory, x, num_rows, finish_block)


def find_panels(isa: Isa, matrix: CodedMatrix) -> PanelChoice | None:
    """None where rows are not whole numbers, or where the machine gains nothing by panels."""
    if not matrix.format.is_whole_by_row:
        return None
    tiling = find_tiling(isa, matrix.inputs)
    product, least_rows = _product(isa, matrix), tiling.panel_rows
    if product is None:
        return None
    if isinstance(product, TilePanels):
        return PanelChoice(product, product.panel_blocks(isa, matrix.inputs), product.least_rows)
    if isinstance(product, MatrixPanels):
        least_rows = product.least_rows
    blocks = max(1, tiling.panel_blocks // product.blocks) * product.blocks
    return PanelChoice(product, blocks, least_rows)


def _product(isa: Isa, matrix: CodedMatrix) -> PanelProduct | None:
    match isa:
        case Avx512Amx():
            return TilePanels()
        case Avx512Vnni():
            return DotPanels(isa, rows=8, num_blocks=2)
        case Avx2Vnni():
            return DotPanels(isa, rows=6, num_blocks=1)
        case NeonI8mm():
            return MatrixPanels(isa)
        case NeonDotProduct():
            return DotPanels(isa, rows=4, num_blocks=1)
        case Avx2() if matrix.format.has_whole_scales and matrix.inputs % SPAN == 0:
            return SmallPanels(isa, rows=4)
        case _:
            return None
