"""How much a model's answers change when a single weight is rounded, for every weight and format.

A weight is rounded to the coarsest format there is for it, and the Kullback-Leibler divergence of the model's
distributions from those of the whole one is measured. What other formats would cost follows from the errors
of the weight's outputs, in whose square the divergence grows as long as it is small (so do Malinovskii et
al., "Pushing the Limits of Large Language Model Quantization via the Linearity Theorem", 2024). Divergences
of several weights add up, about.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir import Array, Module, Operation, QuantFormat, dequantize, find_format, quantize
from ..assignment import find_weights, weight_of
from .grid import FloatArray
from .layers import Arrays, Layer, Reader, Tokens, cut_layers, read_parameters, run_layer
from .scoring import log_softmax
from .statistics import Site, Statistics, find_sites

__all__ = ["Sensitivity", "divergence_with", "measure_sensitivities"]

_MOST_OUTPUTS = 512
"""Rows of a weight that formats are compared by."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The divergence, in nats, that each format of a weight costs, by the format's name."""

    weight: str
    shape: tuple[int, ...]
    losses: Mapping[str, float]


@dataclass
class _Variant:
    """The model with one weight rounded, as far as its layers are computed."""

    changed: Arrays
    kept: list[Mapping[str, Array]]
    divergence: float = 0.0
    errors: Mapping[str, float] = field(default_factory=dict)
    coarsest: str = ""


def measure_sensitivities(
    module: Module,
    read: Reader,
    candidates: Sequence[str],
    sequences: Sequence[Tokens],
    *,
    begin: Callable[[int], None] = lambda _: None,
    advance: Callable[[], None] = lambda: None,
) -> list[Sensitivity]:
    """What each of ``candidates`` costs for each weight of ``module``, at stage ``fused``.

    Formats whose blocks do not divide a weight's rows are left out for it. One layer's parameters are held at
    a time, and for each weight what a layer leaves of all sequences.
    """
    layers = cut_layers(module)
    begin(len(layers))
    measuring = _Measuring(module, sequences, [find_format(name) for name in candidates])
    for index, layer in enumerate(layers):
        later = {value.name for other in layers[index + 1 :] for value in other.graph.parameters}
        parameters = read_parameters(module, (value.name for value in layer.graph.parameters), read)
        measuring.layer(layer, parameters, later)
        advance()
    return measuring.found()


class _Measuring:
    """The model as it is and with each weight rounded, side by side through the layers."""

    def __init__(self, module: Module, sequences: Sequence[Tokens], formats: Sequence[QuantFormat]) -> None:
        self._module, self._sequences, self._formats = module, sequences, formats
        self._weights = find_weights(module)
        self._kept: list[Mapping[str, Array]] = [{} for _ in sequences]
        self._variants: dict[str, _Variant] = {}

    def layer(self, layer: Layer, parameters: Arrays, later: Collection[str]) -> None:
        """Compute a layer for all; ``later`` are parameters of those behind it."""
        statistics = {
            site: site.statistics(with_gram=False) for site in find_sites(layer.graph, self._weights)
        }
        before = self._kept
        self._kept = _advance(layer, parameters, self._sequences, before, statistics)
        for variant in self._variants.values():
            self._follow(variant, layer, parameters, variant.kept)
        for operation in layer.graph.operations:
            name = weight_of(operation).name if operation in self._weights else None
            if name is None or name in self._variants:
                continue
            new = _rounded(parameters[name], operation, statistics, self._formats)
            if new is not None:
                self._follow(new, layer, parameters, before)
                new.changed = {name: new.changed[name]} if name in later else {}
                self._variants[name] = new

    def _follow(
        self,
        variant: _Variant,
        layer: Layer,
        parameters: Arrays,
        before: Sequence[Mapping[str, Array]],
    ) -> None:
        changed = {name: array for name, array in variant.changed.items() if name in parameters}
        variant.kept = _advance(layer, {**parameters, **changed}, self._sequences, before, {})
        output = self._module.forward.outputs[0].name
        if output in variant.kept[0]:  # logits, which are large
            variant.divergence = _divergence(self._kept, variant.kept, output)
            variant.kept = []

    def found(self) -> list[Sensitivity]:
        """What was measured, behind the last layer."""
        shapes = {value.name: value.type.shape for value in self._module.forward.parameters}
        return [
            Sensitivity(
                name,
                tuple(int(dim) for dim in shapes[name]),
                {
                    each: variant.divergence * error / max(variant.errors[variant.coarsest], 1e-30)
                    for each, error in variant.errors.items()
                },
            )
            for name, variant in self._variants.items()
        ]


def divergence_with(
    module: Module, read: Reader, formats: Mapping[str, str | None], sequences: Sequence[Tokens]
) -> float:
    """The divergence, in nats, of the model whose weights, by name, are rounded to ``formats``."""
    exact: list[Mapping[str, Array]] = [{} for _ in sequences]
    rounded: list[Mapping[str, Array]] = [{} for _ in sequences]
    weights = find_weights(module)
    tables = {weight_of(operation).name for operation in weights if operation.operator == "embedding"}
    for layer in cut_layers(module):
        parameters = read_parameters(module, (value.name for value in layer.graph.parameters), read)
        sites = find_sites(layer.graph, weights)
        statistics = {site: site.statistics(with_gram=False) for site in sites}
        exact = _advance(layer, parameters, sequences, exact, statistics)
        importances = {
            weight_of(product).name: _importance(each)
            for site, each in statistics.items()
            for product in site.products
            if weight_of(product).name not in tables
        }
        changed = {
            name: dequantize(
                quantize(np.asarray(parameters[name], np.float32), find_format(wanted), importances.get(name))
            )
            for name in parameters
            if (wanted := formats.get(name)) is not None
        }
        rounded = _advance(layer, {**parameters, **changed}, sequences, rounded, {})
    return _divergence(exact, rounded, module.forward.outputs[0].name)


def _advance(
    layer: Layer,
    parameters: Arrays,
    sequences: Sequence[Tokens],
    kept: Sequence[Mapping[str, Array]],
    statistics: Mapping[Site, tuple[Statistics, ...]],
) -> list[Mapping[str, Array]]:
    watched = {name for site in statistics for name in site.watched}
    results: list[Mapping[str, Array]] = []
    for sequence, before in zip(sequences, kept, strict=True):
        seen: Arrays = {}

        def observe(name: str, array: Array, seen: Arrays = seen) -> None:
            if name in watched:
                seen[name] = array

        results.append(run_layer(layer, parameters, before, sequence, observe if watched else None))
        for site, each in statistics.items():
            for number, rows in site.rows_of(seen):
                each[number].add(rows)
    return results


def _rounded(
    weight: Array,
    operation: Operation,
    statistics: Mapping[Site, tuple[Statistics, ...]],
    formats: Sequence[QuantFormat],
) -> _Variant | None:
    """The weight in the coarsest format that fits it, and the errors of all that do; None where none does."""
    values = np.asarray(weight, np.float32)
    fitting = [each for each in formats if values.shape[-1] % each.block_size == 0]
    if not fitting:
        return None
    own = next((each for site, each in statistics.items() if operation in site.products), None)
    importance = None if own is None else _importance(own)
    samples = own[0].samples if own is not None and values.ndim == 2 and own[0].num_rows else None
    flat = values.reshape(-1, values.shape[-1])
    some = flat[:: max(1, len(flat) // _MOST_OUTPUTS)]
    errors = {each.name: _error(some, each, importance, samples) for each in fitting}
    coarsest = max(errors, key=lambda name: errors[name])
    rounded = dequantize(quantize(values, find_format(coarsest), importance))
    return _Variant({weight_of(operation).name: rounded}, [], errors=errors, coarsest=coarsest)


def _error(
    weight: FloatArray, quant_format: QuantFormat, importance: FloatArray | None, samples: FloatArray | None
) -> float:
    """The squared error of a weight's outputs, of its elements by importance where there are no inputs."""
    lost = weight - dequantize(quantize(weight, quant_format, importance))
    if samples is not None:
        return float(np.square(samples @ lost.T).mean())
    return float((np.square(lost) * (1 if importance is None else importance)).mean())


def _importance(statistics: Sequence[Statistics]) -> FloatArray:
    """Mean squares of a weight's inputs, over its matrices."""
    known = [each.importance for each in statistics if each.num_rows] or [statistics[0].importance]
    result: FloatArray = np.mean(known, axis=0).astype(np.float32)
    return result


def _divergence(
    exact: Sequence[Mapping[str, Array]], changed: Sequence[Mapping[str, Array]], output: str
) -> float:
    """The mean divergence over all positions of all sequences, in nats."""
    total, count = 0.0, 0
    for first, second in zip(exact, changed, strict=True):
        p, q = (log_softmax(np.asarray(each[output], np.float32)) for each in (first, second))
        total += float((np.exp(p) * (p - q)).sum())
        count += len(p)
    return max(total / max(count, 1), 0.0)
