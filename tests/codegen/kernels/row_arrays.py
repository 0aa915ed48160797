"""Rows of codes as kernels take them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ingot.codegen.kernels.code_products import rows_for
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.isa import Isa
from ingot.codegen.kernels.row_codes import RowCodes
from ingot.codegen.kernels.tiling import find_tiling
from ingot.ir import QuantFormat, QuantizedArray, find_format

__all__ = ["expected_arrays", "row_arrays", "row_format", "with_panels"]


def with_panels(isa: Isa, least_rows: int) -> Isa:
    """An instruction set that uses panels for so many rows already."""
    return replace(isa, tiling=replace(find_tiling(isa, 64), panel_rows=least_rows))


def row_format(matrix: CodedMatrix) -> QuantFormat:
    """The format of rows that meet a matrix."""
    return find_format("dynamic_int8_row" if matrix.format.is_whole_by_row else "dynamic_int8_g32")


def row_arrays(matrix: CodedMatrix, x: QuantizedArray) -> list[np.ndarray]:
    """Codes, scales and sums of rows ``[m, inputs]``."""
    return expected_arrays(rows_for(matrix), x.codes[:, None], x.scales[:, None])


def expected_arrays(layout: RowCodes, codes: np.ndarray, scales: np.ndarray) -> list[np.ndarray]:
    """What :mod:`ingot.codegen.kernels.row_codes` says of codes ``[m, pieces, inputs]`` and their scales."""
    num_rows = len(codes)
    padded = np.zeros((num_rows, layout.stride), np.int8)
    padded[:, : layout.width] = codes.reshape(num_rows, -1)
    apart = codes.reshape(num_rows, layout.pieces, -1, layout.sum_size).sum(axis=-1, dtype=np.int32)
    sums = np.concatenate([apart, apart.sum(axis=-1, keepdims=True, dtype=np.int32)], axis=-1)
    return [padded, np.ascontiguousarray(scales.reshape(num_rows, -1)), sums.reshape(num_rows, -1)]
