"""Whole models calibrated, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ingot.ir import Array, Module, QuantizedArray, evaluate, quantize
from ingot.ir.errors import CompileError
from ingot.passes import (
    InterpreterChecker,
    PipelineOptions,
    build_pipeline,
    calibrated_name,
    find_assignment,
    fusing_passes,
    parse_topology,
    run_passes,
)
from ingot.passes.calibration import METHODS, WorkFolder, calibrate, cut_layers, read_parameters, run_layer

from ..plain_llama import PlainLlama

OPTIONS = PipelineOptions(max_seq_len=64, page_size=4)
MODEL = PlainLlama(biases=True, tied=False, layers=2, head_dim=32)
SEQUENCES = [np.random.default_rng(n).integers(0, MODEL.vocab, 24).astype(np.int32) for n in range(3)]


def fused(model: PlainLlama) -> Module:
    return run_passes(model.module(), fusing_passes(OPTIONS)).module


def whole(module: Module, read: Callable[[str], Array], tokens: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    checkpoint = {value.name: read(value.name) for value in module.prepare.inputs}
    names = [value.name for value in module.prepare.outputs]
    parameters = dict(zip(names, evaluate(module.prepare, checkpoint), strict=True))
    positions = np.arange(len(tokens), dtype=np.int32)
    return np.asarray(
        evaluate(module.forward, {**parameters, "token_ids": tokens, "positions": positions})[0]
    )


def run(
    folder: Path, method: str, name: str = "int3_g32", model: PlainLlama = MODEL, **options: Any
) -> WorkFolder:
    return calibrate(
        fused(model),
        options.pop("read", model.weights),
        assignment=options.pop("assignment", find_assignment(name)),
        method=method,
        sequences=options.pop("sequences", SEQUENCES),
        folder=folder,
        **options,
    )


def logits_with(found: Mapping[str, Array], model: PlainLlama) -> list[npt.NDArray[Any]]:
    """Logits with other parameters; rows are not rounded, so that what weights lose is seen alone."""
    module, results = fused(model), []
    parameters = read_parameters(module, (p.name for p in module.forward.parameters), model.weights)
    parameters.update(found)
    for tokens in SEQUENCES:
        kept: Mapping[str, Array] = {}
        for layer in cut_layers(module):
            kept = run_layer(layer, parameters, kept, tokens)
        results.append(np.asarray(next(iter(kept.values()))))
    return results


def test_passes_take_what_was_calibrated(tmp_path: Path) -> None:
    work, model, name = run(tmp_path, "awq", "int4_g32"), MODEL, "int4_g32"
    found = {calibrated_name(parameter, type_): parameter for parameter, type_ in work.types.items()}
    options = replace(OPTIONS, assignment=find_assignment(name), calibrated=work.types)
    module = run_passes(model.module(), build_pipeline(options)).module
    checker = InterpreterChecker(
        lambda tensor: work.read(found[tensor]) if tensor in found else model.weights(tensor),
        vocab_size=model.vocab,
    )
    assert np.isfinite(checker.logits(module)).all()
    kinds = {value.type.element.name for value in module.forward.parameters if value.name.endswith(name)}
    assert kinds == {name}
    assert any("q_proj+k_proj+v_proj" in value.name for value in module.forward.parameters)


def test_layers_one_by_one_are_the_model() -> None:
    module = fused(MODEL)
    layers = cut_layers(module)
    assert [layer.number for layer in layers] == [None, 0, 1, None]
    kept: Mapping[str, Array] = {}
    for layer in layers:
        names = [value.name for value in layer.graph.parameters]
        kept = run_layer(layer, read_parameters(module, names, MODEL.weights), kept, SEQUENCES[0])
    (logits,) = kept.values()
    np.testing.assert_allclose(logits, whole(module, MODEL.weights, SEQUENCES[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["imatrix", "awq", "gptq"])
def test_a_calibrated_model_is_nearer_than_a_rounded_one(method: str, tmp_path: Path) -> None:
    """Inputs of very different size make the difference: a norm's weights, here."""

    def read(name: str) -> npt.NDArray[Any]:
        array = MODEL.weights(name)
        return np.exp(array.astype(np.float32)) if "norm" in name else array

    model = _Reading(read, biases=True, tied=False, layers=2, head_dim=32)
    exact = [whole(fused(model), model.weights, tokens) for tokens in SEQUENCES]
    work = run(tmp_path / "work", method, "int4_g32", model=model)
    quantized = {name: array for name in work.types if isinstance(array := work.read(name), QuantizedArray)}
    assert len(quantized) == 2 * 7 + 1
    plain = {name: quantize(model.weights(name), array.format) for name, array in quantized.items()}

    def error(found: Mapping[str, Array]) -> float:
        logits = logits_with(found, model)
        return float(sum(np.square(a - b).sum() for a, b in zip(logits, exact, strict=True)))

    most = 0.9 if method == "imatrix" else 0.7
    assert error({name: work.read(name) for name in work.types}) < most * error(plain)


class _Reading(PlainLlama):
    """A small model with other weights."""

    def __init__(self, read: Callable[[str], npt.NDArray[Any]], **options: Any) -> None:
        super().__init__(**options)
        object.__setattr__(self, "_read", read)

    def weights(self, name: str) -> npt.NDArray[Any]:
        return self._read(name)  # type: ignore[attr-defined,no-any-return]


def test_awq_changes_nothing_before_weights_are_rounded(tmp_path: Path) -> None:
    work = run(tmp_path, "awq", "int8_g32")
    found = {name: work.read(name) for name in work.types}
    assert any("norm" in name for name in found), "no norm was divided"
    for logits, tokens in zip(logits_with(found, MODEL), SEQUENCES, strict=True):
        exact = whole(fused(MODEL), MODEL.weights, tokens)
        assert np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("method", ["imatrix", "gptq"])
def test_an_interrupted_calibration_goes_on_where_it_was(method: str, tmp_path: Path) -> None:
    done = run(tmp_path / "whole", method)
    layers = iter(range(4))

    def interrupt() -> None:
        if next(layers) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", method, advance=interrupt)
    asked: list[str] = []

    def read(name: str) -> npt.NDArray[Any]:
        asked.append(name)
        return MODEL.weights(name)

    resumed = run(tmp_path / "cut", method, read=read)
    assert not any(".layers.0." in name or ".layers.1." in name or "embed" in name for name in asked)
    assert resumed.types == done.types
    for name in done.types:
        first, second = (work.read(name).components for work in (done, resumed))
        assert all(np.array_equal(first[part], second[part]) for part in first)
    again = run(tmp_path / "cut", method, "int4_g32")  # something else begins anew
    assert {type_.element.name for type_ in again.types.values()} == {"int4_g32"}
    again.remove()
    assert not (tmp_path / "cut").exists()


def test_tied_heads_and_what_stays_are_left_alone(tmp_path: Path) -> None:
    topology = parse_topology("default: int4\nweights: [{layers: 1, format: none}]", "t")
    work = run(tmp_path, "imatrix", model=PlainLlama(head_dim=32), assignment=topology)
    assert len(work.types) == 7
    assert all(".layers.0." in name for name in work.types)


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="gptq needs a text"):
        run(tmp_path / "a", "gptq", sequences=[])
    with pytest.raises(CompileError, match=r"q_proj.weight shall be int4_g32, which has none; .*int4_g64_fz"):
        run(tmp_path / "a", "hqq", "int4_g32", sequences=[])
    with pytest.raises(CompileError, match="no calibration 'best'; there are hqq, imatrix, awq, gptq"):
        run(tmp_path / "a", "best")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "diary.txt").write_text("dear diary")
    with pytest.raises(CompileError, match="is no folder of a calibration, and not empty"):
        run(tmp_path / "b", "imatrix")
    assert (tmp_path / "b" / "diary.txt").exists()
    assert list(METHODS) == ["rtn", "hqq", "imatrix", "awq", "gptq"]


def test_hqq_reads_no_text(tmp_path: Path) -> None:
    work = run(tmp_path, "hqq", "int4_g32_fz", sequences=[])
    assert len(work.types) == 2 * 7 + 1
