"""From a folder to a module: configuration, trace, conversion, weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from ...ir.errors import CompileError, ConfigError
from ...ir.graph import Graph, Module, Value
from ...ir.types import ScalarType
from ..configs import TracedConfig
from ..models.builder import ModelBuilder, identity
from ..weights import Fitting, WeightSource
from .checkpoint import Matched, match_names
from .converter import Converter
from .emitter import Emitter
from .rules import RULES
from .sources import describe
from .terms import Parameter
from .tracing import build_model, longest_sequence, trace

__all__ = ["Exported", "export"]


@dataclass(frozen=True, slots=True)
class Exported:
    """A model that was traced; ``origins`` say of each value's name where it is computed in the source."""

    config: TracedConfig
    module: Module
    origins: Mapping[str, str]


_MOST_POSITIONS = 32_768
"""The longest sequence of a model whose configuration names none."""


def export(folder: Path, weights: WeightSource, name: str) -> Exported:
    """See :func:`ingot.frontend.torch_export.export_model`."""
    config = _read_config(folder)
    model = build_model(config)
    matched = match_names(model, weights)
    traced = trace(model)

    fitting = Fitting(weights)
    builder = ModelBuilder(fitting.declare)
    token_ids = builder.input("token_ids", ("tokens",), ScalarType.INT32)
    positions = builder.input("positions", ("tokens",), ScalarType.INT32)
    emit = Emitter(builder)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    padding = getattr(config.get_text_config(decoder=True), "pad_token_id", None)
    vocab_size = int(model.get_input_embeddings().weight.shape[0])
    parameters = _Parameters(builder, emit, matched, weights, shapes, token_ids, positions)
    logits = Converter(traced, emit, token_ids, positions, parameters.value, padding, vocab_size, RULES).run()
    forward = builder.build(logits)
    fitting.finish(ignored=_expected(model, matched))

    text = config.get_text_config(decoder=True)
    module = Module(name, "plain", identity(forward.parameters), forward)
    longest = longest_sequence(config) or _MOST_POSITIONS
    described = TracedConfig(
        model_type=config.model_type,
        vocab_size=int(logits.type.shape[1]),
        num_layers=int(text.num_hidden_layers),
        max_position_embeddings=min([int(longest), *_table_lengths(forward, positions)]),
        eos_token_ids=_token_ids(
            getattr(config, "eos_token_id", None) or getattr(text, "eos_token_id", None)
        ),
    )
    return Exported(described, module, _origins(emit))


def _origins(emit: Emitter) -> Mapping[str, str]:
    described = {node: describe(node) for node in set(emit.nodes.values())}
    return {value.name: described[node] for value, node in emit.nodes.items()}


def _read_config(folder: Path) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(folder)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / 'config.json'}: transformers cannot read it: {error}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            f"{folder / 'config.json'}: model type '{config.model_type}' is no causal language model that "
            "transformers can build"
        )
    if getattr(config, "quantization_config", None):
        raise ConfigError(
            f"{folder / 'config.json'}: quantization_config: give the unquantized checkpoint of this model"
        )
    return config


def _expected(model: PreTrainedModel, matched: Matched) -> list[str]:
    """Tensors that may be left over: the model's own that its logits do not depend on, and those it names."""
    converted = (name for conversion in matched.conversions.values() for name in conversion.tensors)
    patterns = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    named = (name for name in matched.unused if any(pattern.search(name) for pattern in patterns))
    return [*matched.tensors.values(), *converted, *named]


def _table_lengths(forward: Graph, positions: Value) -> Iterator[int]:
    """How many positions each table that is looked up by position has."""
    for operation in forward.operations:
        if operation.operator in ("embedding", "gather_rows") and operation.operands[1] is positions:
            yield int(operation.operands[0].type.shape[0])


def _token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


class _Parameters:
    """The model's parameters as values of the graph, each asked for where it is first used."""

    def __init__(
        self,
        builder: ModelBuilder,
        emit: Emitter,
        matched: Matched,
        weights: WeightSource,
        shapes: dict[str, tuple[int, ...]],
        token_ids: Value,
        positions: Value,
    ) -> None:
        self._builder = builder
        self._emit = emit
        self._matched = matched
        self._weights = weights
        self._shapes = shapes
        self._inputs = token_ids, positions
        self._made: dict[str, Value] = {}

    def value(self, name: str) -> Value:
        """The parameter called ``name`` in the model, in the checkpoint's type."""
        if name not in self._made:
            if name in self._matched.conversions:
                self._convert(name)
            else:
                tensor = self._matched.tensors.get(name, name)  # one that is missing is reported by its name
                self._made[name] = self._builder.weight(tensor, *self._shapes[name])
        return self._made[name]

    def _convert(self, name: str) -> None:
        conversion = self._matched.conversions[name]
        tensors = [Parameter(tensor) for tensor in conversion.tensors]
        converter = Converter(None, self._emit, *self._inputs, self._tensor, None, 0, RULES)
        results = converter.run_graph(conversion.graph, tensors)
        for parameter, result in zip(conversion.parameters, results, strict=True):
            if not isinstance(result, Value):
                raise CompileError(f"transformers' conversion to {parameter} leaves no tensor")
            self._made[parameter] = result

    def _tensor(self, tensor: str) -> Value:
        shape = self._weights.types[tensor].shape
        return self._builder.weight(tensor, *(int(dim) for dim in shape))
