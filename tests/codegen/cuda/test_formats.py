"""Weights in every format: products of few and many rows, and rows of tables, as the interpreter does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ingot.ir import Array, GraphBuilder, TensorType, evaluate, find_format, quantize
from ingot.ir.types import ScalarType
from ingot.passes.quantize_weights import activations_for

from .emulated import needs_compiler
from .one_step import OneStep

pytestmark = needs_compiler

OFTEN = ("int4_g32_i5", "int3_g64_z", "q2_k", "nvfp4", "fp8_e4m3_g128", "nf4_g64")
SELDOM = (
    *(
        "int2_g32",
        "int3_g32",
        "int5_g32",
        "int6_g64",
        "int7_g32",
        "int8_g32",
        "int4_g16",
        "int3_g8",
        "int8_row",
    ),
    *(
        "int4_row",
        "int8_row_z",
        "int4_row_fz",
        "int8_g128_z",
        "int4_g64_fz_bf16",
        "int2_g128_i5",
        "int3_g32_i5",
    ),
    *("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4"),
    *(
        "fp8_e4m3_row_a8",
        "fp8_e4m3_g128_a8",
        "fp8_e4m3_row",
        "fp8_e5m2_row_bf16",
        "fp8_e4m3_g32_e8m0",
        "fp8_e5m2_g16_f16",
        "nf4_g16_f16",
        "fp4_g64",
        "fp4_g4",
    ),
)
VOCAB, OUTPUTS, INPUTS = 37, 35, 512
ROWS = {"few": 5, "many": 21}


def inputs_of(name: str, *, whole: bool) -> int:
    """Inputs that a format takes; where not ``whole``, rows are no whole spans and so stay floats."""
    block = find_format(name).block_size
    if whole or block > 32:
        return INPUTS
    return 87 if block == 1 else 80 if block <= 16 else 96


def check(names: tuple[str, ...], tmp_path: Path, *, whole: bool = True) -> None:
    """All formats are one program: their results lie side by side."""
    random, builder = np.random.default_rng(7), GraphBuilder()
    parameters: dict[str, Array] = {}
    token_ids = builder.input("token_ids", ("tokens",), ScalarType.INT32)
    results, meant_widths = [], []
    for name in names:
        element, inputs = find_format(name), inputs_of(name, whole=whole)
        table_type = TensorType((VOCAB, inputs), ScalarType.FLOAT32)
        type_ = TensorType((OUTPUTS, inputs), element)
        table = builder.parameter(f"{name}.table", table_type)
        weight = builder.parameter(f"{name}.weight", type_)
        coded = builder.parameter(f"{name}.coded", TensorType((VOCAB, inputs), element))
        parameters[table.name] = random.standard_normal((VOCAB, inputs), np.float32)
        for value in (weight, coded):
            values = random.standard_normal((int(value.type.shape[0]), inputs), np.float32)
            parameters[value.name] = quantize(values + np.float32(0.4), element)
        x = builder.emit("embedding", table, token_ids)
        rows = activations_for(type_)
        if rows is not None:
            x = builder.emit("quantize", x, format=rows.name)
        results += [builder.emit("linear", x, weight), builder.emit("embedding", coded, token_ids)]
        meant_widths.append((OUTPUTS, inputs))
    graph = builder.build(builder.emit("concat", *results, axis=1))
    most = max(ROWS.values())
    step = OneStep(graph, parameters, tmp_path, {"tokens": most, "rows": most})
    try:
        for count in ROWS.values():
            ids = random.integers(0, VOCAB, count).astype(np.int32)
            (meant,) = evaluate(graph, {"token_ids": ids, **parameters})
            found, start = step.run({"token_ids": ids}, {"tokens": count, "rows": count}), 0
            for name, (outputs, inputs) in zip(names, meant_widths, strict=True):
                product, row = slice(start, start + outputs), slice(start + outputs, start + outputs + inputs)
                start = row.stop
                np.testing.assert_allclose(
                    found[:, product], meant[:, product], rtol=2e-4, atol=2e-3, err_msg=name
                )
                np.testing.assert_allclose(found[:, row], meant[:, row], rtol=1e-6, atol=1e-6, err_msg=name)
    finally:
        step.close()


def test_products_and_rows(gpu: Path, tmp_path: Path) -> None:
    check(OFTEN, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_products_and_rows_of_every_format(whole: bool, gpu: Path, tmp_path: Path) -> None:
    check((*OFTEN, *SELDOM), tmp_path, whole=whole)
