"""The second form of a graph: with caches that come and go as whole sequences, as ONNX Runtime GenAI has it.

It takes ``input_ids``, ``attention_mask`` and ``position_ids`` ``[batch, tokens]`` and each layer's past keys
and values ``[batch, kv_heads, past, dim]``, and gives ``logits`` ``[batch, tokens, vocabulary]`` and the
layers' present ones. Attention is GroupQueryAttention; all else is as in the step, and so are the weights,
which lie in the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import onnx

from ...ir import Module, Operation, QuantFormat, ScalarType, TensorType, Value
from ...ir.errors import CompileError
from .mixtures import instead_of_mixtures
from .step import MICROSOFT, Rule, Step, tensor_info
from .weight_file import WeightFile

__all__ = ["build_genai", "genai_config"]

_MODEL_TYPES = frozenset(
    {
        "ernie4_5",
        "gemma3_text",
        "granite",
        "llama",
        "mistral",
        "nemotron",
        "olmo",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
    }
)
"""Those of our architectures that GenAI has by the same name; what it does for all of them is the same."""

_ANY_TYPE = "decoder"
"""What the others are called."""


_WIDTHS = 8
"""What the width of a head is a multiple of in GroupQueryAttention."""


class _Sequences:
    """What the rules of attention share: caches by layer, rows by cache, and what GenAI says of the batch."""

    def __init__(self) -> None:
        self.layers: list[tuple[Value, Value]] = []
        self.rows: dict[Value, Value] = {}
        self._gather_other: Rule

    def rules(self, rules: Mapping[str, Rule]) -> Mapping[str, Rule]:
        """``rules`` with those for pages replaced, and without those for what GenAI has no cache for."""
        absent = ("append_latents", "paged_latent_attention", "paged_conv", "paged_delta", "paged_scan")
        kept = {name: rule for name, rule in rules.items() if name not in absent}
        own = {"append_kv": self._append, "paged_attention": self._attend, "gather_rows": self._gather}
        self._gather_other = rules["gather_rows"]
        return {**kept, **own}

    def _gather(self, step: Step, operation: Operation) -> None:
        """All rows get logits here; other look-ups are as in the step."""
        rows, numbers = operation.operands
        if numbers.name == "logit_rows":
            step.alias(operation.result, step.name(rows))
        else:
            self._gather_other(step, operation)

    def _append(self, step: Step, operation: Operation) -> None:
        keys, values, k, v, _ = operation.operands
        if isinstance(keys.type.element, QuantFormat):
            raise CompileError(f"GenAI's caches are floats, not {keys.type.element.name}")
        widths = {int(cache.type.shape[3]) for cache in (keys, values)}
        if len(widths) > 1 or any(width % _WIDTHS for width in widths):
            raise CompileError(
                f"GroupQueryAttention takes heads of one width, a multiple of {_WIDTHS}, not "
                f"{' and '.join(map(str, sorted(widths)))}"
            )
        self.layers.append((keys, values))
        self.rows.update(zip(operation.results, (k, v), strict=True))

    def _attend(self, step: Step, operation: Operation) -> None:
        q, keys, values = operation.operands[:3]
        attributes, sinks = operation.attributes, operation.operands[6:]
        if "slopes" in attributes:
            raise CompileError("GroupQueryAttention has no slopes")
        layer, window = len(self.layers) - 1, cast(int, attributes["window"])
        names = [_by_sequence(step, value) for value in (q, self.rows[keys], self.rows[values])]
        past = [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]
        lengths = [step.once((kind,), lambda kind=kind: _lengths(step, kind)) for kind in ("each", "most")]  # type: ignore[misc]
        optional = ["", "", "", "", step.name(sinks[0])] if sinks else []
        present = [Value(f"present.{layer}.{kind}", keys.type) for kind in ("key", "value")]
        rows, heads, dim = Value(f"attention.{layer}", q.type), int(q.type.shape[1]), int(q.type.shape[2])
        step.emit_all(
            "GroupQueryAttention",
            *names,
            *past,
            *lengths,
            *optional,
            domain=MICROSOFT,
            results=[rows, *present],
            num_heads=heads,
            kv_num_heads=int(keys.type.shape[1]),
            scale=cast(float, attributes["scale"]),
            softcap=cast(float, attributes["soft_cap"]),
            local_window_size=window or -1,
        )
        step.reshape(step.name(rows), [-1, heads, dim], operation.result)


def _by_sequence(step: Step, rows: Value) -> str:
    """Rows ``[batch * tokens, heads, dim]`` as ``[batch, tokens, heads * dim]``."""
    width = int(rows.type.shape[1]) * int(rows.type.shape[2])
    return _apart(step, step.name(rows), width)


def _apart(step: Step, rows: str, width: int) -> str:
    def shape() -> str:
        sizes = step.once(("sizes",), lambda: step.emit("Shape", "input_ids"))
        return step.emit("Concat", sizes, step.constant([width]), axis=0)

    return step.emit("Reshape", rows, step.once(("shape", width), shape))


def _lengths(step: Step, kind: str) -> str:
    """The last position of each sequence, int32 ``[batch]``, or how long the longest is."""
    if kind == "most":
        return step.cast(
            step.emit("Squeeze", step.emit("Shape", "attention_mask", start=1)), ScalarType.INT32
        )
    count = step.emit("ReduceSum", "attention_mask", step.constant([1]), keepdims=0)
    return step.cast(step.emit("Sub", count, step.constant(1)), ScalarType.INT32)


def build_genai(
    module: Module, weights: WeightFile, rules: Mapping[str, Rule], location: str
) -> onnx.ModelProto:
    """The graph; raises :class:`CompileError` where a layer keeps something that GenAI has no cache for."""
    if module.stage != "paged":
        raise CompileError("GenAI runs models that generate")
    graph, sequences = module.forward, _Sequences()
    step = Step(graph, weights, sequences.rules(rules))
    flat = {"token_ids": "input_ids", "positions": "position_ids"}
    for value in graph.inputs:
        if value.name in flat:
            step.alias(value, step.reshape(flat[value.name], [-1]))
    step.walk(instead_of_mixtures(step))
    if len({cache.type.shape for layer in sequences.layers for cache in layer}) != 1:
        raise CompileError("the layers of a model for GenAI have caches of one shape")
    logits = graph.outputs[0]
    vocabulary = int(logits.type.shape[1])
    step.rename(_apart(step, step.name(logits), vocabulary), "logits")
    inputs = [
        _info(name, ("batch", dim), ScalarType.INT64)
        for name, dim in (("input_ids", "tokens"), ("attention_mask", "context"), ("position_ids", "tokens"))
    ]
    outputs = [_info("logits", ("batch", "tokens", vocabulary), ScalarType.FLOAT32)]
    for layer, caches in enumerate(sequences.layers):
        for kind, cache in zip(("key", "value"), caches, strict=True):
            heads, dim = int(cache.type.shape[1]), int(cache.type.shape[3])
            name = f"past_key_values.{layer}.{kind}"
            inputs.append(_info(name, ("batch", heads, "past", dim), ScalarType.FLOAT32))
            shape = ("batch", heads, "present", dim)
            outputs.append(_info(f"present.{layer}.{kind}", shape, ScalarType.FLOAT32))
    return step.model(f"{module.name} for GenAI", inputs, outputs, location)


def _info(name: str, shape: Sequence[int | str], kind: ScalarType) -> onnx.ValueInfoProto:
    return tensor_info(name, TensorType(tuple(shape), kind))


def genai_config(
    module: Module, *, model_type: str, max_seq_len: int, eos: Sequence[int]
) -> Mapping[str, object]:
    """What GenAI needs to know of the graph in ``model.onnx``, as its ``genai_config.json``."""
    graph = module.forward
    attention = next(operation for operation in graph.operations if operation.operator == "paged_attention")
    q, keys = attention.operands[0].type, attention.operands[1].type
    hidden = next(operation for operation in graph.operations if operation.operator == "embedding").result
    end = list(eos) or [0]
    inputs = {name: name for name in ("input_ids", "attention_mask", "position_ids")}
    outputs = {"logits": "logits"}
    for kind in ("key", "value"):
        inputs[f"past_{kind}_names"] = f"past_key_values.%d.{kind}"
        outputs[f"present_{kind}_names"] = f"present.%d.{kind}"
    return {
        "model": {
            "bos_token_id": end[0],
            "context_length": max_seq_len,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": "model.onnx",
                "head_size": int(q.shape[2]),
                "hidden_size": int(hidden.type.shape[1]),
                "inputs": inputs,
                "outputs": outputs,
                "num_attention_heads": int(q.shape[1]),
                "num_hidden_layers": sum(o.operator == "paged_attention" for o in graph.operations),
                "num_key_value_heads": int(keys.shape[1]),
            },
            "eos_token_id": end if len(end) > 1 else end[0],
            "pad_token_id": end[0],
            "type": model_type if model_type in _MODEL_TYPES else _ANY_TYPE,
            "vocab_size": int(graph.outputs[0].type.shape[1]),
        },
        "search": {
            "do_sample": False,
            "max_length": max_seq_len,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }
