"""Each ``tests/golden/<pass>/<case>.ir`` holds a comment, the pass's options, a module, and what it becomes.

``pytest tests/passes/test_golden.py --update-golden`` rewrites what is expected: read the difference before
you commit it.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ingot.passes
import numpy as np
import numpy.typing as npt
import pytest
from ingot.ir import (
    Array,
    Module,
    QuantFormat,
    QuantizedArray,
    ScalarType,
    TensorType,
    bind_shape,
    dequantize,
    evaluate,
    parse_element,
    parse_module,
    print_module,
    quantize,
    verify,
)
from ingot.passes import CacheType, Pass, find_assignment

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(GOLDEN.glob("*/*.ir"))
PASSES = {
    entry.name: entry
    for entry in vars(ingot.passes).values()
    if inspect.isclass(entry) and issubclass(entry, Pass) and entry is not Pass
}
SYMBOLS = {"tokens": 5}


@dataclass(frozen=True)
class Case:
    comment: str
    options: str
    given: str
    expected: str

    @classmethod
    def read(cls, path: Path) -> Case:
        head, given, expected = path.read_text().split("\n----\n")
        comment, options = head.split("\noptions ")
        return cls(comment, options, given, expected)

    def write(self, path: Path) -> None:
        path.write_text(f"{self.comment}\noptions {self.options}\n----\n{self.given}\n----\n{self.expected}")

    def make_pass(self, name: str) -> Pass:
        readers = {
            "assignment": find_assignment,
            "dtype": ScalarType,
            "kv_cache": CacheType,
            "found": read_types,
        }
        options = {key: readers.get(key, int)(value) for key, value in json.loads(self.options).items()}
        return PASSES[name](**options)


def read_types(found: dict[str, str]) -> dict[str, TensorType]:
    """Types as they are printed, by name."""
    split = {name: text.rstrip("]").split("[") for name, text in found.items()}
    return {
        name: TensorType(tuple(map(int, dims.split(","))), parse_element(element))
        for name, (element, dims) in split.items()
    }


def case_id(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", CASES, ids=case_id)
def test_golden(path: Path, update_golden: bool) -> None:
    case = Case.read(path)
    step = case.make_pass(path.parent.name)
    module = parse_module(case.given)
    verify(module)
    result = step.run(module)
    verify(result.module)
    text = print_module(result.module) if result.modified else "unchanged\n"
    text = "".join(f"# note: {note}\n" for note in result.notes) + text
    if update_golden:
        Case(case.comment, case.options, print_module(module).rstrip(), text).write(path)
        return
    assert text == case.expected
    assert not step.run(result.module).modified, "a second run found something to do"


@pytest.mark.parametrize("path", CASES, ids=case_id)
def test_golden_cases_keep_their_values(path: Path) -> None:
    case = Case.read(path)
    step = case.make_pass(path.parent.name)
    if path.parent.name == "take_calibrated":
        pytest.skip("what a calibration found has values of its own")
    before = parse_module(case.given)
    after = step.run(before).module
    if after.stage in ("paged", "ragged"):
        pytest.skip("a step over a batch is checked over whole sequences, in test_pipeline")
    tolerance = 1e-5 if step.preserves_values else 0.1
    for first, second in zip(run(before), run(after), strict=True):
        np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance)


def test_every_pass_has_a_case_that_changes_nothing_and_one_that_does() -> None:
    for name in PASSES:
        expected = [Case.read(path).expected for path in CASES if path.parent.name == name]
        unchanged = [text.splitlines()[-1] == "unchanged" for text in expected]
        assert any(unchanged), name
        assert not all(unchanged), name


def run(module: Module) -> list[npt.NDArray[Any]]:
    checkpoint = {value.name: random_array(value.name, value.type) for value in module.prepare.inputs}
    prepared = evaluate(module.prepare, checkpoint)
    parameters = dict(zip((value.name for value in module.prepare.outputs), prepared, strict=True))
    inputs = {value.name: random_array(value.name, value.type) for value in module.forward.inputs}
    return [plain(array) for array in evaluate(module.forward, {**inputs, **parameters})]


def random_array(name: str, type_: TensorType) -> Array:
    shape = bind_shape(type_.shape, SYMBOLS)
    if name == "positions":
        return np.arange(shape[0], dtype=np.int32)
    generator = np.random.default_rng(sum(name.encode()))
    if isinstance(type_.element, QuantFormat):
        return quantize(generator.standard_normal(shape) / np.sqrt(shape[-1]), type_.element)
    if type_.scalar is ScalarType.INT32:
        return generator.integers(0, 4, shape, np.int32)
    return np.asarray(generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(type_.scalar.numpy)


def plain(array: Array) -> npt.NDArray[Any]:
    return dequantize(array) if isinstance(array, QuantizedArray) else array
