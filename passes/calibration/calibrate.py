"""Weights quantized for a text: layer by layer, each for the inputs that it meets there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...ir import (
    Array,
    Module,
    Operation,
    QuantFormat,
    QuantizedArray,
    dequantize,
    print_module,
    quantize,
)
from ...ir.errors import CompileError
from ..assignment import Assignment, assign_formats, weight_of
from .awq import search_scales
from .folding import Fold, find_fold
from .gptq import gptq, inverse_factor
from .grid import FloatArray
from .hqq import hqq, takes_hqq
from .layers import Arrays, Layer, Reader, Tokens, cut_layers, read_parameters, run_layer
from .statistics import Site, Statistics, find_sites
from .work import WorkFolder

__all__ = ["METHODS", "CalibrationMethod", "calibrate"]


@dataclass(frozen=True, slots=True)
class CalibrationMethod:
    """A way to quantize weights.

    Attributes:
        name: what users call it.
        summary: what it does, in a few words.
        reads_text: whether it looks at what a text makes of the layers' inputs.
        sees_rounded: whether the inputs it looks at are those of a model whose earlier layers are quantized.
    """

    name: str
    summary: str
    reads_text: bool = True
    sees_rounded: bool = False


METHODS: Mapping[str, CalibrationMethod] = {
    method.name: method
    for method in (
        CalibrationMethod("rtn", "each weight to the nearest, with searched scales", reads_text=False),
        CalibrationMethod("hqq", "zero points that leave few large errors", reads_text=False),
        CalibrationMethod("imatrix", "scales searched for the errors that count"),
        CalibrationMethod("awq", "columns that count scaled up"),
        CalibrationMethod("gptq", "errors made good by later columns", sees_rounded=True),
    )
}
"""Every way to quantize by name."""


def calibrate(
    module: Module,
    read: Reader,
    *,
    assignment: Assignment,
    method: str,
    sequences: Sequence[Tokens],
    folder: Path,
    begin: Callable[[int], None] = lambda _: None,
    advance: Callable[[], None] = lambda: None,
) -> WorkFolder:
    """Quantize the weights of ``module``, at stage ``fused``, for the inputs that ``sequences`` give them.

    One layer's parameters are held at a time, and of one sequence what is kept between layers. What is found
    lies in ``folder``, by the names of parameters; a calibration that was interrupted goes on in it. Tables
    of embeddings are left to :class:`.QuantizeWeights`, and so are heads that share theirs. Weights of
    several matrices, of experts or heads, are rounded by importance where the method is for one matrix.

    ``begin`` is told the number of layers, ``advance`` that one is done.

    Raises:
        CompileError: the assignment does not fit the model, the method not a format or there is no text; or
            the folder is used otherwise.
    """
    if method not in METHODS or method == "rtn":
        raise CompileError(
            f"no calibration '{method}'; there are {', '.join(m for m in METHODS if m != 'rtn')}"
        )
    if METHODS[method].reads_text and not sequences:
        raise CompileError(f"{method} needs a text to calibrate on")
    formats, _ = assign_formats(module, assignment)
    tables = {weight_of(operation) for operation in formats if operation.operator == "embedding"}
    wanted = {
        operation: quant_format
        for operation, quant_format in formats.items()
        if weight_of(operation) not in tables
    }
    if method == "hqq":
        _check_zero_points(wanted)
    layers = cut_layers(module)
    work = WorkFolder(folder, _key(module, wanted, method, sequences))
    begin(len(layers))
    run = _Calibration(module, read, METHODS[method], wanted, sequences, work)
    for index, layer in enumerate(layers):
        if index >= work.num_layers_done:
            run.layer(layer)
        advance()
    return work


def _check_zero_points(wanted: Mapping[Operation, QuantFormat]) -> None:
    for operation, quant_format in wanted.items():
        if not takes_hqq(quant_format):
            raise CompileError(
                f"hqq moves zero points, but {weight_of(operation).name} shall be {quant_format.name}, which "
                "has none; formats like int4_g64_fz have"
            )


def _key(
    module: Module, wanted: Mapping[Operation, QuantFormat], method: str, sequences: Sequence[Tokens]
) -> str:
    """What the results depend on, as a hash."""
    digest = hashlib.sha256(print_module(module).encode())
    for operation, quant_format in wanted.items():
        digest.update(f"{operation.results[0].name} {quant_format.name}\n".encode())
    digest.update(method.encode())
    for sequence in sequences:
        digest.update(sequence.tobytes() + b"|")
    return digest.hexdigest()


class _Calibration:
    def __init__(
        self,
        module: Module,
        read: Reader,
        method: CalibrationMethod,
        wanted: Mapping[Operation, QuantFormat],
        sequences: Sequence[Tokens],
        work: WorkFolder,
    ) -> None:
        self._module = module
        self._read = read
        self._method = method
        self._wanted = wanted
        self._sequences = sequences
        self._work = work

    def layer(self, layer: Layer) -> None:
        """Quantize the weights of one layer, and keep them and what the layer leaves for the next."""
        done = self._work.types
        parameters = read_parameters(
            self._module, (value.name for value in layer.graph.parameters), self._read
        )
        found_before = {name: self._work.read(name) for name in parameters if name in done}
        if self._method.sees_rounded:
            parameters.update({name: _plain(array) for name, array in found_before.items()})
        mine = {op: f for op, f in self._wanted.items() if weight_of(op).name not in found_before}
        sites = find_sites(layer.graph, mine)
        with_gram = self._method.name == "gptq"
        statistics = {site: site.statistics(with_gram=with_gram) for site in sites}
        states: list[Mapping[str, Array]] = []
        is_last = layer.graph.outputs == self._module.forward.outputs
        if self._sequences and (sites or not is_last):
            states = self._run(layer, parameters, statistics)
        found = self._quantize(sites, statistics, parameters, mine)
        if is_last:
            states = []
        elif self._method.sees_rounded and found:
            states = self._run(layer, {**parameters, **{k: _plain(v) for k, v in found.items()}}, {})
        self._work.keep(found, states)

    def _run(
        self, layer: Layer, parameters: Arrays, statistics: Mapping[Site, tuple[Statistics, ...]]
    ) -> list[Mapping[str, Array]]:
        """What the layer leaves of each sequence; ``statistics`` are filled on the way."""
        watched = {name for site in statistics for name in site.watched}
        states: list[Mapping[str, Array]] = []
        for index, sequence in enumerate(self._sequences):
            seen: Arrays = {}

            def observe(name: str, array: Array, seen: Arrays = seen) -> None:
                if name in watched:
                    seen[name] = array

            kept = run_layer(layer, parameters, self._work.state(index), sequence, observe)
            for site, each in statistics.items():
                for number, rows in site.rows_of(seen):
                    each[number].add(rows)
            states.append(kept)
        return states

    def _quantize(
        self,
        sites: Sequence[Site],
        statistics: Mapping[Site, tuple[Statistics, ...]],
        parameters: Arrays,
        wanted: Mapping[Operation, QuantFormat],
    ) -> dict[str, Array]:
        found: dict[str, Array] = {}
        values: dict[str, FloatArray] = {}

        def now(name: str) -> FloatArray:
            return values.get(name, np.asarray(parameters[name], np.float32))

        for site in reversed(sites):  # what a site's inputs are divided in belongs to a site before it
            importances = [each.importance for each in statistics[site]]
            factor = inverse_factor(statistics[site][0].gram) if self._is_gptq(site) else None
            if self._method.name == "awq":
                scales = self._scale(site, statistics[site], wanted, now, values, found)
                importances = [each / (scales * scales) for each in importances]
            for product in site.products:
                name, quant_format = weight_of(product).name, wanted[product]
                if name not in found:
                    found[name] = (
                        self._round(now(name), quant_format, statistics[site], importances)
                        if factor is None
                        else gptq(now(name), statistics[site][0].gram, quant_format, factor)
                    )
        return found

    def _is_gptq(self, site: Site) -> bool:
        return self._method.name == "gptq" and site.operator == "linear"

    def _scale(
        self,
        site: Site,
        statistics: Sequence[Statistics],
        wanted: Mapping[Operation, QuantFormat],
        now: Callable[[str], FloatArray],
        values: dict[str, FloatArray],
        found: dict[str, Array],
    ) -> FloatArray:
        """Scale a site's weights as AWQ does, and divide what makes their inputs; the scales ``[inputs]``."""
        fold = find_fold(site, self._module.forward, self._wanted)
        names = [weight_of(product).name for product in site.products]
        (only, *others) = statistics
        unscaled = np.float32(1)
        if fold is None or others or not only.num_rows or not self._can_fold(fold, names, found):
            return np.asarray(unscaled)
        scales = search_scales(
            [now(name) for name in names],
            [wanted[product] for product in site.products],
            only.samples,
            fold.spread(only.magnitude),
        )
        if scales is None:
            return np.asarray(unscaled)
        for name in dict.fromkeys(names):
            values[name] = now(name) * scales
        of_parameters = fold.of_parameters(scales)
        rounded = {weight_of(product).name for product in self._wanted}
        for name in fold.parameters:
            divided = now(name)
            values[name] = divided / of_parameters.reshape(-1, *[1] * (divided.ndim - 1))
            if name not in rounded:
                found[name] = values[name]
        return scales

    def _can_fold(self, fold: Fold, names: Sequence[str], found: Mapping[str, Array]) -> bool:
        """Whether nothing that would change is done already, here or in a layer before."""
        done = {*found, *self._work.types}
        return done.isdisjoint(names) and done.isdisjoint(fold.parameters)

    def _round(
        self,
        weight: FloatArray,
        quant_format: QuantFormat,
        statistics: Sequence[Statistics],
        importances: Sequence[FloatArray],
    ) -> QuantizedArray:
        """One weight, or each matrix of a weight of several."""
        if self._method.name == "hqq":
            return _each(weight, lambda matrix, _: hqq(matrix, quant_format))

        def by_importance(matrix: FloatArray, index: int) -> QuantizedArray:
            # Nothing is known of an expert that the text never chose.
            known = statistics[index].num_rows > 0
            return quantize(matrix, quant_format, importances[index] if known else None)

        return _each(weight, by_importance)


def _each(weight: FloatArray, rounding: Callable[[FloatArray, int], QuantizedArray]) -> QuantizedArray:
    if weight.ndim == 2:
        return rounding(weight, 0)
    parts = [rounding(matrix, index) for index, matrix in enumerate(weight)]
    (first, *_) = parts
    stacked: dict[str, npt.NDArray[Any]] = {
        name: np.stack([part.components[name] for part in parts]) for name in first.components
    }
    return QuantizedArray(first.format, **stacked)


def _plain(array: Array) -> npt.NDArray[Any]:
    return dequantize(array) if isinstance(array, QuantizedArray) else array
