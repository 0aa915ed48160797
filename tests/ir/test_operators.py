"""What operators compute, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ingot.ir import (
    OPERATORS,
    STAGES,
    Array,
    Attribute,
    Graph,
    GraphBuilder,
    IRError,
    QuantizedArray,
    ScalarType,
    TensorType,
    bind_shape,
    dequantize,
    evaluate,
    find_format,
    find_operator,
    parse_element,
    quantize,
)

Floats = npt.NDArray[np.float32]
RNG = np.random.default_rng(0)


def rows(*shape: int) -> Floats:
    return RNG.standard_normal(shape).astype(np.float32)


def i32(values: object) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def f32(values: object) -> Floats:
    return np.array(values, np.float32)


def compute(graph: Graph, arrays: Mapping[str, Array]) -> list[npt.NDArray[Any]]:
    """The results of ``graph``, none of which is quantized."""
    results = evaluate(graph, arrays)
    assert not any(isinstance(result, QuantizedArray) for result in results)
    return [np.asarray(result) for result in results]


def run(operator: str, *arrays: npt.NDArray[Any], **attributes: Attribute) -> npt.NDArray[Any]:
    """The only result of one operator over ``arrays``."""
    builder = GraphBuilder()
    names = [f"x{index}" for index in range(len(arrays))]
    values = [
        builder.input(name, array.shape, ScalarType.of(array))
        for name, array in zip(names, arrays, strict=True)
    ]
    graph = builder.build(*builder.apply(operator, values, attributes))
    result = compute(graph, dict(zip(names, arrays, strict=True)))[0]
    assert result.dtype == graph.outputs[0].type.scalar.numpy
    return result


def test_every_operator_is_legal_somewhere() -> None:
    find_operator("add")
    legal = {name for stage in STAGES.values() for name in stage.forward_operators | stage.prepare_operators}
    assert legal == set(OPERATORS)


@pytest.mark.parametrize(
    "name", [*("neg", "exp", "cos", "sin", "rsqrt", "square"), *("tanh", "silu", "gelu", "gelu_tanh")]
)
@pytest.mark.parametrize("scalar", [ScalarType.FLOAT32, ScalarType.FLOAT16, ScalarType.BFLOAT16])
def test_unary(name: str, scalar: ScalarType) -> None:
    reference: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
        "neg": lambda x: -x,
        "exp": np.exp,
        "cos": np.cos,
        "sin": np.sin,
        "rsqrt": lambda x: x**-0.5,
        "square": lambda x: x * x,
        "tanh": np.tanh,
        "silu": lambda x: x / (1 + np.exp(-x)),
        "gelu": lambda x: x / 2 * np.vectorize(math.erfc)(-x / math.sqrt(2)),
        "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }
    x = np.abs(rows(3, 5)).astype(scalar.numpy)
    expected = reference[name](x.astype(np.float64)).astype(np.float32)
    tolerance = {ScalarType.FLOAT32: 1e-6, ScalarType.FLOAT16: 2e-3, ScalarType.BFLOAT16: 1e-2}[scalar]
    np.testing.assert_allclose(run(name, x).astype(np.float32), expected, rtol=tolerance)


def test_silu_of_large_negatives_is_zero_without_a_warning() -> None:
    np.testing.assert_array_equal(run("silu", f32([-1e4, 0])), [0, 0])


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "greater"])
def test_binary_broadcasts(name: str) -> None:
    function = getattr(
        np, {"sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power"}.get(name, name)
    )
    a, b = np.abs(rows(3, 1, 5)), np.abs(rows(4, 1)) + 1
    np.testing.assert_allclose(run(name, a, b), function(a, b), rtol=1e-6)


def test_a_choice_lets_no_infinity_through() -> None:
    chosen = run("where", f32([1, 0, 2]), f32([5]), f32([np.inf, 7, np.nan]))
    np.testing.assert_array_equal(chosen, [5, 7, 5])
    np.testing.assert_array_equal(run("floor", f32([1.5, -1.5, 2])), [1, -2, 2])


def test_reductions() -> None:
    x = rows(3, 5)
    np.testing.assert_allclose(run("mean", x, axis=1), x.mean(axis=1, keepdims=True), rtol=1e-6)
    weights = run("softmax", x * 100, axis=1)
    np.testing.assert_allclose(weights.sum(axis=1), np.ones(3), rtol=1e-6)
    assert (weights.argmax(axis=1) == x.argmax(axis=1)).all()


def test_shapes() -> None:
    x = rows(2, 3, 4)
    np.testing.assert_array_equal(run("transpose", x, axes=(2, 0, 1)), x.transpose(2, 0, 1))
    np.testing.assert_array_equal(run("reshape", x, shape=(6, 4)), x.reshape(6, 4))
    np.testing.assert_array_equal(run("slice", x, axis=1, start=1, stop=3), x[:, 1:3])
    np.testing.assert_array_equal(run("concat", x, x, axis=2), np.concatenate([x, x], axis=2))
    np.testing.assert_array_equal(run("repeat", x, axis=0, times=2), x[[0, 0, 1, 1]])
    np.testing.assert_array_equal(run("gather_rows", x, i32([1, 1, 0])), x[[1, 1, 0]])
    np.testing.assert_array_equal(run("iota", length=4), np.arange(4))


def test_the_mask_counts_the_own_position_in_its_window() -> None:
    mask = run("causal_mask", np.arange(4, dtype=np.int32), window=2)
    np.testing.assert_array_equal(mask == 0, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]])
    assert (run("causal_mask", np.arange(4, dtype=np.int32), window=0) == 0).sum() == 10


def attend_slowly(
    q: Floats,
    k: Floats,
    v: Floats,
    scale: float,
    window: int,
    *,
    soft_cap: float = np.inf,
    sinks: Floats | None = None,
    slopes: Floats | None = None,
) -> Floats:
    """Attention as its definition, one query and head at a time."""
    result = np.zeros_like(q)
    group, offset = q.shape[1] // k.shape[1], len(k) - len(q)
    for i in range(len(q)):
        first = max(0, offset + i - window + 1) if window else 0
        seen = slice(first, offset + i + 1)
        for head in range(q.shape[1]):
            scores = k[seen, head // group] @ q[i, head] * scale
            if soft_cap < np.inf:
                scores = np.tanh(scores / soft_cap) * soft_cap
            if slopes is not None:
                scores = scores + slopes[head] * np.arange(first, offset + i + 1)
            weights = np.exp(scores)
            total = weights.sum() + (0 if sinks is None else np.exp(sinks[head]))
            result[i, head] = weights / total @ v[seen, head // group]
    return result


@pytest.mark.parametrize("window", [0, 3])
def test_attention(window: int) -> None:
    q, k, v = rows(7, 6, 8), rows(7, 2, 8), rows(7, 2, 8)
    result = run("attention", q, k, v, scale=0.3, soft_cap=0.0, window=window)
    np.testing.assert_allclose(result, attend_slowly(q, k, v, 0.3, window), atol=1e-5)


def test_attention_with_soft_cap_and_sinks() -> None:
    q, k, v, sinks = rows(7, 6, 8), rows(7, 2, 8), rows(7, 2, 8), rows(6)
    result = run("attention", q, k, v, sinks, scale=0.9, soft_cap=0.7, window=0)
    expected = attend_slowly(q, k, v, 0.9, 0, soft_cap=0.7, sinks=sinks)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_attention_with_slopes() -> None:
    q, k, v = rows(7, 6, 8), rows(7, 2, 8), rows(7, 2, 8)
    slopes = np.array([0.5, 0.25, 0.125, 0.3, 1.7, 0.01], np.float32)
    result = run("attention", q, k, v, scale=0.3, soft_cap=0.0, window=3, slopes=slopes)
    np.testing.assert_allclose(result, attend_slowly(q, k, v, 0.3, 3, slopes=slopes), atol=1e-5)


def test_softmax_beside_sinks() -> None:
    scores, sinks = rows(6, 3, 4), rows(6, 1, 1)
    together = run("softmax", np.concatenate([scores, np.broadcast_to(sinks, (6, 3, 1))], axis=2), axis=2)
    np.testing.assert_allclose(run("softmax", scores, sinks, axis=2), together[:, :, :4], rtol=1e-6)


@pytest.mark.parametrize("window", [0, 3])
def test_paged_attention_is_attention_wherever_the_pages_lie(window: int) -> None:
    page_size, lengths, new = 4, (7, 9), (3, 1)
    table = i32([[5, 2, 0], [1, 4, 3]])
    k_pages, v_pages = (np.full((6, 2, page_size, 8), np.nan, np.float16) for _ in range(2))
    sequences = []
    for row, length in zip(table, lengths, strict=True):
        k, v = (rows(length, 2, 8).astype(np.float16) for _ in range(2))
        slots = i32([row[p // page_size] * page_size + p % page_size for p in range(length)])
        builder = GraphBuilder()
        caches = [builder.state(n, k_pages.shape, ScalarType.FLOAT16) for n in ("kc", "vc")]
        parts = [builder.input(n, k.shape, ScalarType.FLOAT16) for n in ("k", "v")]
        where = builder.input("slots", slots.shape, ScalarType.INT32)
        graph = builder.build(*builder.emit_all("append_kv", *caches, *parts, where))
        arrays: dict[str, Array] = {"kc": k_pages, "vc": v_pages, "k": k, "v": v, "slots": slots}
        k_pages, v_pages = compute(graph, arrays)
        sequences.append((k.astype(np.float32), v.astype(np.float32)))
    q = rows(sum(new), 6, 8)
    result = run(
        "paged_attention",
        *(q, k_pages, v_pages, i32([0, 3, 4]), i32(lengths), table),
        scale=0.3,
        soft_cap=0.0,
        window=window,
    )
    queries = np.split(q, [new[0]])
    expected = [attend_slowly(part, *kv, 0.3, window) for part, kv in zip(queries, sequences, strict=True)]
    np.testing.assert_allclose(result, np.concatenate(expected), atol=1e-5)


def test_fused_operators_are_their_formulas() -> None:
    x, y, w = rows(3, 8), rows(3, 8), rows(8)
    normed = run("rms_norm", x + y, w, epsilon=1e-5)
    expected = (x + y) / np.sqrt(((x + y) ** 2).mean(axis=1, keepdims=True) + 1e-5) * w
    np.testing.assert_allclose(normed, expected, rtol=1e-5)
    np.testing.assert_array_equal(run("add_rms_norm", x, y, w, epsilon=1e-5), x + y)
    for name in ("silu", "gelu", "gelu_tanh"):
        np.testing.assert_allclose(run(f"{name}_mul", np.hstack([x, y])), run(name, x) * y, rtol=1e-6)


def test_layer_norm_is_its_formula() -> None:
    x, y, w, b = rows(3, 8), rows(3, 8), rows(8), rows(8)
    total = x + y
    distance = total - total.mean(axis=1, keepdims=True)
    expected = distance / np.sqrt((distance**2).mean(axis=1, keepdims=True) + 1e-5) * w
    np.testing.assert_allclose(run("layer_norm", total, w, epsilon=1e-5), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        run("layer_norm", total, w, b, epsilon=1e-5), expected + b, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(run("add_layer_norm", x, y, w, b, epsilon=1e-5), total)


def test_the_length_of_a_sequence_is_read_off_its_positions() -> None:
    assert run("sequence_length", i32([0, 1, 2, 3, 4])) == [5]


def test_rope_turns_pairs_half_a_head_apart() -> None:
    x, angles = rows(5, 3, 8), rows(5, 4)
    result = run("rope", x, np.cos(angles), np.sin(angles), interleaved=False)
    pairs = x[..., :4] + 1j * x[..., 4:]
    expected = pairs * np.exp(1j * angles)[:, None]
    np.testing.assert_allclose(result, np.concatenate([expected.real, expected.imag], axis=-1), atol=1e-5)


def test_rope_turns_neighbours_and_keeps_the_rest() -> None:
    x, angles = rows(5, 3, 8), rows(5, 3)
    result = run("rope", x, np.cos(angles), np.sin(angles), interleaved=True)
    pairs = x[..., :6:2] + 1j * x[..., 1:6:2]
    expected = pairs * np.exp(1j * angles)[:, None]
    np.testing.assert_allclose(result[..., :6:2] + 1j * result[..., 1:6:2], expected, atol=1e-6)
    np.testing.assert_array_equal(result[..., 6:], x[..., 6:])


@pytest.mark.parametrize(
    "weights",
    [
        *("int4_g32", "int8_row", "q4_1", "q3_k", "q4_k", "iq4_xs", "nvfp4", "int4_g64_z", "int8_row_z"),
        *("fp8_e4m3_row_a8", "fp8_e4m3_g64_a8"),
    ],
)
def test_quantized_linear_multiplies_what_was_rounded(weights: str) -> None:
    x, w, bias = rows(3, 256), rows(5, 256), rows(5)
    to = find_format(weights).rows or "dynamic_int8_g32"
    quantized_x, quantized_w = quantize(x, find_format(to)), quantize(w, find_format(weights))
    builder = GraphBuilder()
    value = builder.input("x", x.shape, ScalarType.FLOAT32)
    parameters = [
        builder.parameter("w", TensorType(w.shape, find_format(weights))),
        builder.parameter("b", TensorType(bias.shape, ScalarType.FLOAT32)),
    ]
    rounded = builder.emit("quantize", value, format=to)
    graph = builder.build(
        builder.emit("linear", rounded, *parameters), builder.emit("linear", value, *parameters)
    )
    both, weight_only = compute(graph, {"x": x, "w": quantized_w, "b": bias})
    np.testing.assert_allclose(both, dequantize(quantized_x) @ dequantize(quantized_w).T + bias, atol=1e-4)
    np.testing.assert_allclose(weight_only, x @ dequantize(quantized_w).T + bias, atol=1e-5)


def test_quantized_embedding_is_rows_of_the_rounded_table() -> None:
    table = quantize(rows(7, 32), find_format("int8_g32"))
    builder = GraphBuilder()
    ids = builder.input("ids", ["n"], ScalarType.INT32)
    weight = builder.parameter("table", TensorType((7, 32), find_format("int8_g32")))
    graph = builder.build(builder.emit("embedding", weight, ids))
    (result,) = compute(graph, {"ids": i32([6, 0, 6]), "table": table})
    np.testing.assert_array_equal(result, dequantize(table)[[6, 0, 6]])


@pytest.mark.parametrize("element", ["int4_g32", "q4_k", "fp8_e4m3_row", "nf4_g64"])
def test_rows_of_quantized_tensors_are_moved_as_they_are(element: str) -> None:
    values = {name: quantize(rows(6, 256), find_format(element)) for name in ("a", "b")}
    builder = GraphBuilder()
    a, b = (builder.input(name, (6, 256), find_format(element)) for name in values)
    joined = builder.emit("concat", a, b, axis=0)
    by_head = builder.emit("reshape", joined, shape=(3, 4, 256))
    turned = builder.emit("transpose", by_head, axes=(1, 0, 2))
    taken = builder.emit("slice", turned, axis=1, start=1, stop=3)
    results = [builder.emit("stack", taken, taken), builder.emit("repeat", taken, axis=0, times=2)]
    graph = builder.build(*(builder.emit("cast", result, to="float32") for result in results))
    stacked, repeated = compute(graph, values)
    expected = np.concatenate([dequantize(value) for value in values.values()])
    expected = expected.reshape(3, 4, 256).transpose(1, 0, 2)[:, 1:]
    np.testing.assert_array_equal(stacked, np.stack([expected, expected]))
    np.testing.assert_array_equal(repeated, np.repeat(expected, 2, axis=0))


F32, F16, I32 = ScalarType.FLOAT32, ScalarType.FLOAT16, ScalarType.INT32


def typed(element: str, *shape: int | str) -> TensorType:
    return TensorType(shape, parse_element(element))


@pytest.mark.parametrize(
    ("operator", "types", "attributes", "problem"),
    [
        ("exp", [typed("int32", 4)], {}, "needs floats"),
        ("add", [typed("float32", "tokens"), typed("float32", "rows")], {}, "do not broadcast"),
        ("add", [typed("float32", 4), typed("float16", 4)], {}, "element types differ"),
        ("cast", [typed("float32", 4)], {"to": "float8"}, "'float8' is no scalar type"),
        ("transpose", [typed("int8_g32", 5, 32)], {"axes": (1, 0)}, "does not keep the rows of"),
        ("concat", [typed("q4_k", 5, 256)] * 2, {"axis": 1}, "does not keep the rows of"),
        ("slice", [typed("int8_g32", 64)], {"axis": 0, "start": 0, "stop": 32}, "does not keep the rows of"),
        ("reshape", [typed("float32", "tokens", 6)], {"shape": ("tokens", 7)}, "does not reshape"),
        ("reshape", [typed("float32", "tokens", 6)], {"shape": ("rows", 6)}, "does not reshape"),
        ("transpose", [typed("float32", 2, 3)], {"axes": (0, 0)}, "do not permute"),
        ("concat", [typed("float32", 2, 3), typed("float32", 3, 3)], {"axis": 1}, "do not join along axis 1"),
        ("concat", [typed("float32", "t", 3)] * 2, {"axis": 0}, "must be a whole number, not the symbol t"),
        ("slice", [typed("float32", 4)], {"axis": 0, "start": 2, "stop": 5}, "2 to 5 is no slice"),
        ("repeat", [typed("float32", 4)], {"axis": 0, "times": 0}, "positive count"),
        ("iota", [], {"length": 0}, "must be positive"),
        ("gather_rows", [typed("float32", 4), typed("float32", 2)], {}, "rows must be int32"),
        ("causal_mask", [typed("int32", "t")], {"window": -1}, "a window must be positive, or 0"),
        ("matmul", [typed("float32", 2, 3), typed("float32", 2, 3)], {}, "do not multiply"),
        ("linear", [typed("float32", "t", 3), typed("float32", 5, 4)], {}, "rows of 4 are needed"),
        ("linear", [typed("float16", "t", 3), typed("float16", 5, 3)], {}, "rows are float32 or quantized"),
        (
            "linear",
            [typed("dynamic_int8_g32", "t", 32), typed("float32", 5, 32)],
            {},
            "need a weight of whole numbers",
        ),
        (
            "linear",
            [typed("float32", "t", 3), typed("float32", 5, 3), typed("float16", 5)],
            {},
            "the bias must be float32[5]",
        ),
        ("embedding", [typed("float32", 5, 3), typed("int64", "t")], {}, "token ids must be int32[n]"),
        ("quantize", [typed("int32", 32)], {"format": "int8_g32"}, "must be of floats"),
        ("quantize", [typed("float32", 33)], {"format": "int8_g32"}, "multiple of its block size"),
        (
            "rope",
            [typed("float32", "t", 2, 8)] + [typed("float32", "t", 8)] * 2,
            {"interleaved": False},
            "must be float32[t, 4]",
        ),
        (
            "attention",
            [typed("float32", "t", 5, 8)] + [typed("float32", "t", 2, 8)] * 2,
            {"scale": 1.0, "soft_cap": 0.0, "window": 0},
            "2 KV heads do not divide 5 heads",
        ),
        (
            "attention",
            [typed("float32", "t", 6, 8)] + [typed("float32", "t", 2, 8)] * 2 + [typed("float32", 2)],
            {"scale": 1.0, "soft_cap": 0.0, "window": 0},
            "sinks must be float32[6], not float32[2]",
        ),
        (
            "attention",
            [typed("float32", "t", 6, 8)] + [typed("float32", "t", 2, 8)] * 2,
            {"scale": 1.0, "soft_cap": 0.0, "window": 0, "slopes": np.ones(2, np.float32)},
            "slopes must be float32[6], not float32[2]",
        ),
        (
            "softmax",
            [typed("float32", 6, 3, 3), typed("float32", 6)],
            {"axis": 2},
            "sinks must be one for each row",
        ),
        ("silu_mul", [typed("float32", "t", 7)], {}, "halves of float32 rows"),
        (
            "append_kv",
            [typed("float16", "pages", 2, 4, 8)] * 2
            + [typed("float32", "t", 3, 8)] * 2
            + [typed("int32", "t")],
            {},
            "do not take",
        ),
    ],
)
def test_misfits_are_refused(
    operator: str, types: Sequence[TensorType], attributes: dict[str, Attribute], problem: str
) -> None:
    builder = GraphBuilder()
    operands = [builder.parameter(f"p{index}", type_) for index, type_ in enumerate(types)]
    with pytest.raises(IRError) as error:
        builder.apply(operator, operands, attributes)
    assert problem in str(error.value)


def test_the_interpreter_checks_what_it_is_given() -> None:
    builder = GraphBuilder()
    x = builder.input("x", ["tokens", 4], F32)
    y = builder.input("y", ["tokens", 4], F32)
    graph = builder.build(builder.emit("add", x, y))
    with pytest.raises(IRError, match=r"'y' .* is not given"):
        evaluate(graph, {"x": rows(2, 4)})
    with pytest.raises(IRError, match=r"'y' has shape .*tokens is 2"):
        evaluate(graph, {"x": rows(2, 4), "y": rows(3, 4)})
    with pytest.raises(IRError, match="'x' has shape"):
        evaluate(graph, {"x": rows(2, 5), "y": rows(2, 4)})


def test_the_interpreter_fetches_parameters_and_shows_results() -> None:
    builder = GraphBuilder()
    x = builder.input("x", ["n"], F32)
    w = builder.parameter("w", TensorType((1,), F32))
    graph = builder.build(builder.emit("mul", x, w, name="scaled"))
    seen: list[str] = []
    (result,) = evaluate(
        graph,
        {"x": f32([1, 2])},
        parameter=lambda name: f32([len(name)]),
        observe=lambda name, array: seen.append(name),
    )
    np.testing.assert_array_equal(result, [1, 2])
    assert seen == ["scaled"]


def test_dimensions_are_numbers_or_symbols() -> None:
    assert str(TensorType(("tokens", 4), F16)) == "float16[tokens, 4]"
    assert bind_shape(("tokens", 4), {"tokens": 7}) == (7, 4)
    with pytest.raises(IRError, match=r"'rows' .* has no value"):
        bind_shape(("rows",), {"tokens": 7})
    with pytest.raises(IRError, match="'2x' is not a dimension"):
        TensorType(("2x",), I32)
    with pytest.raises(IRError, match="-1 is negative"):
        TensorType((-1,), I32)


def test_unknown_operators_are_refused() -> None:
    with pytest.raises(IRError, match="no operator 'fft'"):
        find_operator("fft")
