"""The stages of a module on its way, each as an executable spec: legal operators, inputs by name, and rules.

=============  ==============================================================================================
``plain``      as a model's authors write it, over one whole sequence; what every frontend emits
``fused``      patterns have become operators of their own; the plain ones stay legal where nothing matched
``quantized``  rows are rounded on the way to weights in quantization formats; a checkpoint may have such
               at every stage
``paged``      one step over a ragged batch: keys and values live in pages, logits of the rows asked for
``ragged``     one step over whole sequences of a ragged batch, without a cache: a vector for each
=============  ==============================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .errors import IRError
from .graph import Graph, Module
from .types import ScalarType, TensorType

__all__ = ["STAGES", "Rule", "StageSpec", "find_stage", "graphs_of"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that holds at a stage: ``text`` says what, ``check`` yields what breaks it."""

    text: str
    check: Callable[[Module], Iterator[str]]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What a module of the stage ``name`` may hold.

    ``inputs`` are the types of ``forward``'s inputs by name; with ``all_inputs`` there must be these and no
    others, but for ``optional_inputs``, which may be missing.
    """

    name: str
    forward_operators: frozenset[str]
    prepare_operators: frozenset[str]
    inputs: Mapping[str, TensorType]
    all_inputs: bool
    rules: tuple[Rule, ...]
    optional_inputs: frozenset[str] = frozenset()


def find_stage(name: str) -> StageSpec:
    """The stage called ``name``; raises :class:`IRError` if there is none."""
    try:
        return STAGES[name]
    except KeyError:
        raise IRError(f"no stage '{name}'; stages: {', '.join(STAGES)}") from None


def _prepare_is_static(module: Module) -> Iterator[str]:
    graph = module.prepare
    for value in (*graph.states, *graph.parameters):
        yield f"prepare has %{value.name} as state or parameter"
    for value in (*graph.inputs, *(result for operation in graph.operations for result in operation.results)):
        if any(isinstance(dim, str) for dim in value.type.shape):
            yield f"prepare's %{value.name} is {value.type}"


def _prepare_gives_parameters(module: Module) -> Iterator[str]:
    given, taken = module.prepare.outputs, module.forward.parameters
    if len(given) != len(taken):
        yield f"prepare returns {len(given)} values for {len(taken)} parameters"
    for output, parameter in zip(given, taken, strict=False):
        if output.name != parameter.name or output.type != parameter.type:
            yield f"prepare returns {output} where the parameter is {parameter}"


def _has_no_states(module: Module) -> Iterator[str]:
    for state in module.forward.states:
        yield f"forward has the state {state}"


def _returns_states(module: Module) -> Iterator[str]:
    graph = module.forward
    returned = graph.outputs[-len(graph.states) :] if graph.states else ()
    if len(graph.outputs) <= len(graph.states):
        yield f"forward returns {len(graph.outputs)} values, with {len(graph.states)} states"
        return
    for state, output in zip(graph.states, returned, strict=True):
        producer = graph.producers.get(output)
        if producer is None or producer.operator not in _WRITERS or state not in producer.operands:
            yield f"forward returns {output} for the state %{state.name}"
        elif producer.results[producer.operands.index(state)] is not output:
            yield f"forward returns {output} for the state %{state.name}, which it is not"


def _states_have_one_writer(module: Module) -> Iterator[str]:
    graph = module.forward
    uses = Counter(operand for operation in graph.operations for operand in operation.operands)
    for state in graph.states:
        if uses[state] != 1:
            yield f"the state %{state.name} is used {uses[state]} times"


def _tokens_stay_apart(module: Module) -> Iterator[str]:
    for operation in module.forward.operations:
        for result in operation.results:
            if result.type.shape.count("tokens") > 1:
                yield f"{operation.operator} gives {result}"


def _head_is_of_rows(module: Module) -> Iterator[str]:
    logits = module.forward.outputs[0] if module.forward.outputs else None
    if logits is None or logits.type.shape[:1] != ("rows",) or logits.type.rank != 2:
        yield f"forward's first output is {logits}"


def _head_is_of_sequences(module: Module) -> Iterator[str]:
    outputs = module.forward.outputs
    if len(outputs) != 1 or outputs[0].type.shape[:1] != ("sequences",) or outputs[0].type.rank != 2:
        yield f"forward returns {', '.join(map(str, outputs)) or 'nothing'}"


def _int32(*shape: str) -> TensorType:
    return TensorType(shape, ScalarType.INT32)


_ELEMENTWISE = frozenset(
    {"neg", "exp", "log", "cos", "sin", "rsqrt", "square", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh"}
    | {"cast", "floor", "greater", "where"}
    | {"add", "sub", "mul", "div", "pow", "maximum", "minimum"}
)
_SHAPE = frozenset({"constant", "iota", "reshape", "transpose", "concat", "slice", "repeat", "gather_rows"})
_EXPERTS = frozenset({"route", "take_chosen", "expert_linear", "weighted_sum"})
_LATENT = frozenset({"head_linear", "latent_attention"})
_PREPARE = _ELEMENTWISE | _SHAPE | {"mean", "matmul", "stack"}
_RECURRENT = frozenset({"causal_conv", "gated_delta_rule", "selective_scan"})
_OF_VECTORS = frozenset({"pool", "l2_normalize"})
_PLAIN = (
    _PREPARE
    | _EXPERTS
    | _RECURRENT
    | _OF_VECTORS
    | {"softmax", "linear", "embedding", "permute_columns"}
    | {"causal_mask", "bidirectional_mask", "sequence_length"}
)
_FUSED = (
    _PLAIN
    | {"rms_norm", "add_rms_norm", "layer_norm", "add_layer_norm", "rope"}
    | {"attention", "bidirectional_attention", "silu_mul", "gelu_mul", "gelu_tanh_mul"}
    | _LATENT
)
_QUANTIZED = _FUSED | {"quantize"}
_WRITERS = frozenset({"append_kv", "append_latents", "paged_conv", "paged_delta", "paged_scan"})
"""The operators that write states: their first operands, in whose places the first results are."""
_OF_ONE_SEQUENCE = _RECURRENT | {
    *("causal_mask", "bidirectional_mask", "softmax", "attention", "bidirectional_attention", "matmul"),
    *("sequence_length", "latent_attention"),
}
_PAGED = (
    (_QUANTIZED - _OF_ONE_SEQUENCE - _OF_VECTORS) | _WRITERS | {"paged_attention", "paged_latent_attention"}
)
_RAGGED = (_QUANTIZED - _OF_ONE_SEQUENCE) | {"ragged_attention"}

_SEQUENCE_INPUTS = MappingProxyType({"token_ids": _int32("tokens"), "positions": _int32("tokens")})
_STEP_INPUTS = MappingProxyType(
    {
        **_SEQUENCE_INPUTS,
        "sequence_starts": _int32("sequence_bounds"),
        "context_lengths": _int32("sequences"),
        "page_table": _int32("sequences", "pages_per_sequence"),
        "slots": _int32("tokens"),
        "logit_rows": _int32("rows"),
    }
)

_BATCH_INPUTS = MappingProxyType(
    {
        **_SEQUENCE_INPUTS,
        "token_types": _int32("tokens"),
        "sequence_starts": _STEP_INPUTS["sequence_starts"],
        "context_lengths": _STEP_INPUTS["context_lengths"],
    }
)

_ALWAYS = (
    Rule("prepare has only inputs, and no symbol in a shape", _prepare_is_static),
    Rule("prepare returns forward's parameters, names and types alike", _prepare_gives_parameters),
)
_OVER_A_SEQUENCE = (*_ALWAYS, Rule("a model over a whole sequence has no states", _has_no_states))
_OVER_A_STEP = (
    *_ALWAYS,
    Rule("each state has one use, the operation that writes it", _states_have_one_writer),
    Rule("outputs end with the written states, in order", _returns_states),
    Rule("no value pairs tokens with tokens", _tokens_stay_apart),
    Rule("the first output is the logits [rows, vocabulary]", _head_is_of_rows),
)

_OVER_A_BATCH = (
    *_OVER_A_SEQUENCE,
    Rule("no value pairs tokens with tokens", _tokens_stay_apart),
    Rule("the output is a vector for each sequence, [sequences, width]", _head_is_of_sequences),
)

STAGES: Mapping[str, StageSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            StageSpec("plain", _PLAIN, _PREPARE, _SEQUENCE_INPUTS, False, _OVER_A_SEQUENCE),
            StageSpec("fused", _FUSED, _PREPARE, _SEQUENCE_INPUTS, False, _OVER_A_SEQUENCE),
            StageSpec(
                "quantized", _QUANTIZED, _PREPARE | {"quantize"}, _SEQUENCE_INPUTS, False, _OVER_A_SEQUENCE
            ),
            StageSpec("paged", _PAGED, _PREPARE | {"quantize"}, _STEP_INPUTS, True, _OVER_A_STEP),
            StageSpec(
                "ragged",
                _RAGGED,
                _PREPARE | {"quantize"},
                _BATCH_INPUTS,
                True,
                _OVER_A_BATCH,
                optional_inputs=frozenset({"token_types"}),
            ),
        )
    }
)
"""Every stage by name, in the order in which a module goes through them."""


def graphs_of(module: Module) -> tuple[tuple[str, Graph, frozenset[str]], ...]:
    """The module's graphs by name, each with the operators legal in it at the module's stage."""
    spec = find_stage(module.stage)
    return (
        ("prepare", module.prepare, spec.prepare_operators),
        ("forward", module.forward, spec.forward_operators),
    )
