"""Norms, rotary embedding, gates and look-ups on every machine, against the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.elementwise import Argument, elementwise, gate
from ingot.codegen.kernels.float_product import FloatMatrix
from ingot.codegen.kernels.layout import Layout, pack
from ingot.codegen.kernels.norms import layer_norm, rms_norm
from ingot.codegen.kernels.pointwise import embedding, gather_rows, mean, rope
from ingot.codegen.kernels.rows import Rows
from ingot.ir import Array, Attribute, find_format, find_operator, quantize

from .machines import Machine, filled

Floats = npt.NDArray[np.float32]
NUM_ROWS = 7
VIEWS = [Rows.dense(64), Rows(42, 64, 5), Rows(6, 33, 27)]


def random_rows(view: Rows, seed: int = 0, scale: float = 1.0) -> tuple[Floats, Floats]:
    """A buffer that is NaN outside the view, and the view's rows."""
    buffer = np.full((NUM_ROWS, view.stride), np.nan, np.float32)
    rows = buffer[:, view.offset : view.offset + view.width]
    rows[...] = np.random.default_rng(seed).standard_normal(rows.shape) * scale
    return buffer, rows


def meaning(operator: str, operands: Sequence[Array], **attributes: Attribute) -> tuple[np.ndarray, ...]:
    return tuple(map(np.asarray, find_operator(operator).evaluate(list(operands), attributes, {})))


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("heads", [1, 2])
def test_rms_norm(machine: Machine, view: Rows, heads: int) -> None:
    size = view.width // heads
    kernel = machine.build(rms_norm(machine.isa, "kernel", view, size, 1e-5, None))
    buffer, rows = random_rows(view, scale=3)
    rows[2] = 0
    weight = np.random.default_rng(1).standard_normal(size, np.float32)
    out = filled((NUM_ROWS, view.width), "float32")
    kernel(buffer, weight, out)
    (expected,) = meaning("rms_norm", [rows.reshape(NUM_ROWS, heads, size), weight], epsilon=1e-5)
    np.testing.assert_allclose(out, expected.reshape(out.shape), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(("view", "residual"), [(VIEWS[1], Rows(42, 50, 8)), (VIEWS[0], Rows.dense(64))])
def test_add_rms_norm(machine: Machine, view: Rows, residual: Rows) -> None:
    kernel = machine.build(rms_norm(machine.isa, "kernel", view, view.width, 1e-6, residual))
    (buffer, rows), (other_buffer, other) = random_rows(view), random_rows(residual, 1)
    weight = np.random.default_rng(1).standard_normal(view.width, np.float32)
    total, out = (filled((NUM_ROWS, view.width), "float32") for _ in range(2))
    kernel(buffer, other_buffer, weight, total, out)
    expected = meaning("add_rms_norm", [rows, other, weight], epsilon=1e-6)
    np.testing.assert_array_equal(total, expected[0])
    np.testing.assert_allclose(out, expected[1], rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("residual", [None, Rows(42, 50, 8)])
def test_layer_norm(machine: Machine, heads: int, has_bias: bool, residual: Rows | None) -> None:
    view = VIEWS[1]
    size = view.width // heads
    kernel = machine.build(layer_norm(machine.isa, "kernel", view, size, 1e-5, residual, has_bias))
    buffer, rows = random_rows(view, scale=3)
    rows[2] = 7
    random = np.random.default_rng(1)
    weights = [random.standard_normal(size, np.float32) for _ in range(1 + has_bias)]
    shape = (NUM_ROWS, heads, size)
    out = filled((NUM_ROWS, view.width), "float32")
    if residual is None:
        kernel(buffer, *weights, out)
        expected = meaning("layer_norm", [rows.reshape(shape), *weights], epsilon=1e-5)
    else:
        other_buffer, other = random_rows(residual, 1)
        total = filled(out.shape, "float32")
        kernel(buffer, other_buffer, *weights, total, out)
        operands = [rows.reshape(shape), other.reshape(shape), *weights]
        expected = meaning("add_layer_norm", operands, epsilon=1e-5)
        np.testing.assert_array_equal(total, expected[0].reshape(out.shape))
    np.testing.assert_allclose(out, expected[-1].reshape(out.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operator", ["add", "sub", "mul", "div", "maximum", "minimum", "greater"])
def test_binary(machine: Machine, operator: str) -> None:
    arguments = Argument(VIEWS[1]), Argument(Rows.dense(42))
    kernel = machine.build(elementwise(machine.isa, "kernel", (operator, 0, 1), arguments, (42,)))
    (buffer, rows), (other, _) = random_rows(VIEWS[1]), random_rows(Rows.dense(42), 1)
    out = filled((NUM_ROWS, 42), "float32")
    kernel(buffer, other, out)
    np.testing.assert_allclose(out, meaning(operator, [rows, other])[0], rtol=1e-6)


@pytest.mark.parametrize(
    "operator",
    ["neg", "exp", "log", "rsqrt", "square", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh", "floor"],
)
@pytest.mark.parametrize("scale", [0.1, 3.0, 20.0])
def test_unary(machine: Machine, operator: str, scale: float) -> None:
    kernel = machine.build(elementwise(machine.isa, "kernel", (operator, 0), (Argument(VIEWS[0]),), (64,)))
    buffer, rows = random_rows(VIEWS[0], scale=scale)
    if operator in ("log", "rsqrt"):
        np.abs(rows, out=rows)
    out = filled(rows.shape, "float32")
    kernel(buffer, out)
    (expected,) = meaning(operator, [rows.astype(np.float64).astype(np.float32)])
    np.testing.assert_allclose(out, expected, rtol=3e-6, atol=2e-6 if operator.startswith("gelu") else 1e-30)


def test_a_choice_lets_no_infinity_through(machine: Machine) -> None:
    arguments = (Argument(VIEWS[1]), Argument(Rows.dense(42)))
    expression = ("where", ("greater", 0, 0.5), 1, ("log", 0.0))
    kernel = machine.build(elementwise(machine.isa, "kernel", expression, arguments, (42,)))
    (buffer, rows), (other, _) = random_rows(VIEWS[1]), random_rows(Rows.dense(42), 1)
    out = filled((NUM_ROWS, 42), "float32")
    kernel(buffer, other, out)
    np.testing.assert_array_equal(out, np.where(rows > 0.5, other, -np.inf))


def test_an_expression_is_one_kernel(machine: Machine) -> None:
    """Of numbers, rows, an element for parts of rows, and vectors for parts of rows and for all of them."""
    expression = (
        "add",
        ("mul", ("tanh", ("div", 0, 3.0)), 3.0),
        ("mul", ("mul", 1, 2), ("sub", 3, ("mul", 0, 4))),
    )
    arguments = (
        Argument(VIEWS[1], (21, 1)),
        Argument(Rows(2, 5, 2), (1, 0)),
        Argument(Rows.dense(21), (0, 1), in_every_row=(21,)),
        Argument(Rows.dense(42), (21, 1), in_every_row=(1, 2, 21)),
        Argument(Rows.dense(1), (0, 0), is_integer=True),
    )
    kernel = machine.build(elementwise(machine.isa, "kernel", expression, arguments, (2, 21)))
    (buffer, rows), (column_buffer, column) = random_rows(VIEWS[1]), random_rows(Rows(2, 5, 2), 1)
    random = np.random.default_rng(2)
    half, whole = (random.standard_normal(size, np.float32) for size in (21, 42))
    positions = np.arange(NUM_ROWS, dtype=np.int32)
    out = filled((NUM_ROWS, 42), "float32")
    kernel(buffer, column_buffer, half, whole.reshape(1, 2, 21), positions, out)
    scaled = np.repeat(column, 21, axis=1) * np.tile(half, 2) * (whole - rows * positions[:, None])
    np.testing.assert_allclose(out, np.tanh(rows / 3) * 3 + scaled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "inner"), [(2, 21), (7, 3)])
def test_mean_of_columns_apart(machine: Machine, size: int, inner: int) -> None:
    kernel = machine.build(mean(machine.isa, "kernel", VIEWS[1], size, inner))
    buffer, rows = random_rows(VIEWS[1])
    out = filled((NUM_ROWS, 42 // size), "float32")
    kernel(buffer, out)
    expected = rows.reshape(NUM_ROWS, -1, size, inner).mean(axis=2).reshape(NUM_ROWS, -1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_logarithms_have_their_limits(machine: Machine) -> None:
    kernel = machine.build(elementwise(machine.isa, "kernel", ("log", 0), (Argument(Rows.dense(20)),), (20,)))
    given = np.geomspace(1e-37, 1e37, 20, dtype=np.float32)[None]
    given[0, 3], given[0, 17] = 0, -1
    out = filled(given.shape, "float32")
    kernel(given, out)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.testing.assert_allclose(out, np.log(given), rtol=1e-6)


@pytest.mark.parametrize(("view", "size"), [(VIEWS[0], 64), (VIEWS[1], 21), (VIEWS[2], 2)])
def test_mean(machine: Machine, view: Rows, size: int) -> None:
    kernel = machine.build(mean(machine.isa, "kernel", view, size))
    buffer, rows = random_rows(view)
    out = filled((NUM_ROWS, view.width // size), "float32")
    kernel(buffer, out)
    np.testing.assert_allclose(out, rows.reshape(NUM_ROWS, -1, size).mean(axis=-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("view", "head_dim", "num_pairs"),
    [(Rows.dense(64), 32, 16), (Rows(42, 64, 5), 14, 7), (Rows(36, 50, 7), 4, 2), (Rows(84, 90, 3), 42, 17)],
)
@pytest.mark.parametrize("interleaved", [False, True])
def test_rope(machine: Machine, view: Rows, head_dim: int, num_pairs: int, interleaved: bool) -> None:
    kernel = machine.build(rope(machine.isa, "kernel", view, head_dim, num_pairs, interleaved))
    buffer, rows = random_rows(view)
    angles = np.random.default_rng(1).uniform(0, 500, (NUM_ROWS, num_pairs))
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    out = filled((NUM_ROWS, view.width), "float32")
    kernel(buffer, cosines, sines, out)
    operands = [rows.reshape(NUM_ROWS, -1, head_dim), cosines, sines]
    (expected,) = meaning("rope", operands, interleaved=interleaved)
    np.testing.assert_allclose(out, expected.reshape(out.shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_gates(machine: Machine, view: Rows, scale: float, activation: str) -> None:
    kernel = machine.build(gate(machine.isa, "kernel", view, activation))
    buffer, rows = random_rows(view, scale=scale)
    rows[:, : view.width // 2][0] = 0
    out = filled((NUM_ROWS, view.width // 2), "float32")
    kernel(buffer, out)
    (expected,) = meaning(f"{activation}_mul", [rows])
    tolerance = (1e-6, 1e-30) if activation == "silu" else (3e-6, 2e-6)
    np.testing.assert_allclose(out, expected, rtol=tolerance[0], atol=tolerance[1] * scale)


@pytest.mark.parametrize("view", [VIEWS[0], VIEWS[1]], ids=str)
@pytest.mark.parametrize("fixed", [NUM_ROWS, None])
def test_gather_rows(machine: Machine, view: Rows, fixed: int | None) -> None:
    kernel = machine.build(gather_rows(machine.isa, "kernel", fixed, view))
    buffer, rows = random_rows(view)
    for numbers in ([6], [0, 3, 3, 1, 6, 5, 2, 4, 0], [2, 1]):
        out = filled((len(numbers), view.width), "float32")
        kernel(buffer, np.array(numbers, np.int32), out)
        np.testing.assert_array_equal(out, rows[numbers])


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "int8_g32", "int4_g32"])
@pytest.mark.parametrize("vocabulary", [32, 45])
def test_embedding(machine: Machine, kind: str, vocabulary: int) -> None:
    table: Array = np.random.default_rng(0).standard_normal((vocabulary, 64), np.float32)
    matrix: FloatMatrix | CodedMatrix
    if kind.endswith("g32"):
        matrix = CodedMatrix(vocabulary, 64, find_format(kind))
        table = quantize(table, matrix.format)
    else:
        table = table.astype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
        matrix = FloatMatrix(vocabulary, 64, "uint16" if kind == "bfloat16" else kind)
    arrays = pack(table, Layout.BLOCKED)
    kernel = machine.build(embedding(machine.isa, "kernel", matrix))
    token_ids = np.array([vocabulary - 1, 0, 16, 15, 31, 7], np.int32)
    out = filled((len(token_ids), 64), "float32")
    kernel(*arrays, token_ids, out)
    np.testing.assert_array_equal(out, meaning("embedding", [table, token_ids])[0])
