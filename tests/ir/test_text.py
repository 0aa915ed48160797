"""Modules as text and back."""

from __future__ import annotations

from contextlib import suppress

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ingot.ir import (
    GraphBuilder,
    Module,
    ParseError,
    QuantizedArray,
    ScalarType,
    TensorType,
    evaluate,
    find_format,
    parse_module,
    print_module,
    verify,
)

AnyArray = npt.NDArray[np.generic]

NAMES = st.text(min_size=1, max_size=12) | st.from_regex(r"[A-Za-z0-9_.'+]{1,12}", fullmatch=True)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)
ARRAYS = st.one_of(
    hnp.arrays(np.float32, SHAPES),
    hnp.arrays(np.float16, SHAPES),
    hnp.arrays(np.float32, SHAPES).map(lambda array: array.astype(ml_dtypes.bfloat16)),
    hnp.arrays(st.sampled_from([np.int8, np.uint8, np.int32, np.int64]), SHAPES),
)

TEXT = """\
module "small" stage plain

prepare
  inputs(%w: bfloat16[4])
{
  return %w
}

forward
  inputs(%token_ids: int32[tokens])
  parameters(%w: bfloat16[4])
{
  %x: float32[tokens] = cast(%token_ids, to="float32")
  %y: float32[tokens, 1] = reshape(%x, shape=[tokens, 1])
  %c: float32[4] = constant(value=float32[4](1e-05, 0.1, -0.0, inf))
  %z: float32[tokens, 4] = add(%y, %c)
  return %z, %y
}
"""


def module_of(builder: GraphBuilder, *outputs: object, name: str = "m") -> Module:
    graph = builder.build(*outputs)  # type: ignore[arg-type]
    prepare = GraphBuilder()
    given = [prepare.input(v.name, v.type.shape, v.type.scalar) for v in graph.parameters]
    return Module(name, "plain", prepare.build(*given), graph)


def test_text_is_the_module() -> None:
    module = parse_module(TEXT)
    verify(module)
    assert print_module(module) == TEXT
    assert (module.name, module.stage) == ("small", "plain")
    (ids,) = module.forward.inputs
    assert ids.type == TensorType(("tokens",), ScalarType.INT32)
    z = np.asarray(evaluate(module.forward, {"token_ids": np.array([7, 2], np.int32)})[0])
    np.testing.assert_array_equal(
        z, np.array([[7 + 1e-5, 7.1, 7, np.inf], [2 + 1e-5, 2.1, 2, np.inf]], np.float32)
    )


def test_comments_and_layout_are_free() -> None:
    squeezed = "# a comment\n" + " ".join(TEXT.split()).replace("return", "#\n return")
    assert print_module(parse_module(squeezed)) == TEXT


@given(st.lists(st.tuples(NAMES, ARRAYS), max_size=6), st.text())
def test_constants_and_names_come_back_bit_by_bit(constants: list[tuple[str, AnyArray]], name: str) -> None:
    builder = GraphBuilder()
    module = module_of(builder, *[builder.constant(array, key) for key, array in constants], name=name)
    verify(module)
    text = print_module(module)
    read = parse_module(text)
    verify(read)
    assert print_module(read) == text
    assert read.name == name
    assert [v.name for v in read.forward.outputs] == [v.name for v in module.forward.outputs]
    for (_, array), result in zip(constants, evaluate(read.forward, {}), strict=True):
        assert not isinstance(result, QuantizedArray)
        assert result.dtype == array.dtype
        assert result.tobytes() == array.tobytes()


@st.composite
def graphs(draw: st.DrawFn) -> Module:
    """Graphs of elementwise and shape operators over rows ``[tokens, n]``."""
    builder = GraphBuilder()
    width = draw(st.integers(1, 6))
    rows = [builder.input("x", ["tokens", width], ScalarType.FLOAT32)]
    weight = builder.parameter(
        draw(NAMES.filter(lambda n: n != "x")), TensorType((width,), ScalarType.FLOAT32)
    )
    for _ in range(draw(st.integers(1, 8))):
        value = draw(st.sampled_from(rows))
        choice = draw(
            st.sampled_from(["neg", "cos", "silu", "add", "mul", "weigh", "turn", "rms_norm", "cut"])
        )
        match choice:
            case "add" | "mul":
                result = builder.emit(choice, value, draw(st.sampled_from(rows)))
            case "weigh":
                result = builder.emit("maximum", value, weight, name=draw(st.none() | NAMES))
            case "turn":
                turned = builder.emit("transpose", value, axes=(1, 0))
                result = builder.emit("transpose", turned, axes=(1, 0))
            case "rms_norm":
                epsilon = draw(st.floats(1e-9, 1, allow_subnormal=False))
                result = builder.emit("rms_norm", value, weight, epsilon=epsilon)
            case "cut":
                at = draw(st.integers(0, width - 1))
                parts = [(0, at), (at, width)] if at else [(0, width)]
                cut = [builder.emit("slice", value, axis=1, start=a, stop=b) for a, b in parts]
                result = builder.emit("concat", *reversed(cut), axis=1)
            case _:
                result = builder.emit(choice, value)
        rows.append(result)
    forward = builder.build(*draw(st.lists(st.sampled_from(rows), min_size=1, max_size=3)))
    prepare = GraphBuilder()
    given = prepare.input(weight.name, weight.type.shape, ScalarType.FLOAT32)
    return Module("drawn", "fused", prepare.build(given), forward)


@given(graphs())
def test_graphs_come_back_and_mean_the_same(module: Module) -> None:
    verify(module)
    text = print_module(module)
    read = parse_module(text)
    verify(read)
    assert print_module(read) == text
    width = module.forward.inputs[0].type.shape[1]
    arrays = {
        "x": np.linspace(-2, 2, 3 * int(width), dtype=np.float32).reshape(3, -1),
        module.forward.parameters[0].name: np.linspace(0.5, 1.5, int(width), dtype=np.float32),
    }
    with np.errstate(all="ignore"):
        before, after = evaluate(module.forward, arrays), evaluate(read.forward, arrays)
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_quantized_types_have_their_formats_name() -> None:
    builder = GraphBuilder()
    x = builder.input("x", ["tokens", 64], ScalarType.FLOAT32)
    module = module_of(builder, builder.emit("quantize", x, format="int4_g32", name="q"))
    text = print_module(module)
    assert '%q: int4_g32[tokens, 64] = quantize(%x, format="int4_g32")' in text
    (value,) = parse_module(text).forward.outputs
    assert value.type.element is find_format("int4_g32")


def test_long_constants_are_compact() -> None:
    builder = GraphBuilder()
    text = print_module(module_of(builder, builder.constant(np.arange(1000, dtype=np.float32))))
    assert len(text) < 5600


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "problem"),
    [
        ("module", "modul", 1, 1, "'module' is expected, not 'modul'"),
        ('"small"', "small", 1, 8, "a string is expected, not 'small'"),
        ("bfloat16[4])\n{", "float17[4])\n{", 4, 14, "no element type or quantization format 'float17'"),
        ("int32[tokens]", "int8_g32[tokens]", 10, 22, "last dimension that is a multiple of its block size"),
        ("cast(%token_ids", "cast(%tokens", 13, 30, "'%tokens' is not defined"),
        ("cast(%token_ids", "cast(%x", 13, 30, "not defined before its own operation"),
        ("cast(", "kast(", 13, 25, "no operator 'kast'"),
        ('to="float32"', 'to="a", to="b"', 13, 50, "attribute 'to' is given twice"),
        ('to="float32"', 'to="float32', 13, 45, "no token starts with '\"'"),
        ("%y: float32", "%x: float32", 14, 3, "'%x' is defined twice"),
        ("shape=[tokens, 1]", "shape=[tokens 1]", 14, 54, "',' or ']' is expected, not '1'"),
        ("shape=[tokens, 1]", "shape=[tokens, 1.5]", 14, 55, "a whole number is expected, not '1.5'"),
        ("shape=[tokens, 1]", "shape=)", 14, 46, "an attribute's value is expected, not ')'"),
        ("0.1, ", "", 15, 35, "is not what its elements make"),
        ("0.1, ", "x, ", 15, 53, "a number is expected, not 'x'"),
        ("float32[4](1e-05, 0.1, -0.0, inf)", 'float32[4]("AAAA")', 15, 35, "is not what its elements make"),
        ("float32[4](1e-05, 0.1, -0.0, inf)", 'float32[4]("A*")', 15, 35, "is not what its elements make"),
        ("float32[4](1e-05, 0.1, -0.0, inf)", "int8[1](300)", 15, 35, "is not what its elements make"),
        ("float32[4](1e-05", "float32[n](1e-05", 15, 35, "a constant's shape is of whole numbers"),
        ("return %z", "return %zz", 17, 10, "'%zz' is not defined"),
        ("%y\n}\n", "%y\n", 18, 1, "'}' is expected, not 'the end of the text'"),
        ("%y\n}\n", "%y\n} more", 18, 3, "the end is expected, not 'more'"),
    ],
)
def test_errors_name_line_and_column(old: str, new: str, line: int, column: int, problem: str) -> None:
    assert old in TEXT
    with pytest.raises(ParseError) as error:
        parse_module(TEXT.replace(old, new, 1))
    assert str(error.value).startswith(f"line {line}, column {column}: ")
    assert problem in str(error.value)


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_any_damage_is_a_module_or_a_parse_error(where: int, character: str) -> None:
    damaged = TEXT[:where] + character + TEXT[where + 1 :]
    with suppress(ParseError):  # and nothing else
        text = print_module(parse_module(damaged))
        assert print_module(parse_module(text)) == text
