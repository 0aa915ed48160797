"""A causal language model of ``transformers`` as a graph of torch's operators."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from ...ir.errors import CompileError, IngotError
from .buffers import buffer_values
from .guards import check_guards
from .operators import IMPLEMENTATION, one_sequence
from .sources import source_line
from .standins import standing_in

__all__ = ["BATCH", "Trace", "build_model", "longest_sequence", "trace"]

BATCH = 1009
"""The batch a model is traced over: a prime that is no dimension of a model, so that it is recognised
wherever it comes up and can be left out."""

_TRACED_TOKENS = 24
_FEWEST_TOKENS = 2


@dataclass(frozen=True)
class Trace:
    """A traced model.

    Attributes:
        model: the model, its parameters without memory.
        graph: the graph, whose inner graphs are attributes of ``owner``.
        owner: the module that holds the graph.
        parameters: for each placeholder that is a parameter, its name in the model.
        constants: for each placeholder that is a buffer or a constant, its values.
        token_ids: the placeholder of the tokens.
    """

    model: PreTrainedModel
    graph: torch.fx.Graph
    owner: torch.fx.GraphModule
    parameters: Mapping[str, str]
    constants: Mapping[str, torch.Tensor]
    token_ids: str


class _LogitsOnly(torch.nn.Module):  # type: ignore[misc]
    """The model as a function from token ids to logits."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=token_ids, use_cache=False, return_dict=True).logits
        return logits


def build_model(config: PreTrainedConfig) -> PreTrainedModel:
    """The model of a configuration, in float32 and without memory for parameters and buffers.

    Raises:
        CompileError: transformers cannot build it, or only with an attention of its own.
    """
    try:
        with torch.device("meta"), _quiet():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, attn_implementation=IMPLEMENTATION, dtype=torch.float32
            )
    except Exception as error:  # whatever a model's code may raise
        model = _build_with_own_attention(config, error)
    if model._can_set_experts_implementation():
        model.set_experts_implementation(IMPLEMENTATION)
    return model.eval()


def _build_with_own_attention(config: PreTrainedConfig, error: Exception) -> PreTrainedModel:
    """Models that take no other attention are built with theirs, which is traced as it is written."""
    try:
        with torch.device("meta"), _quiet():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, attn_implementation="eager", dtype=torch.float32
            )
    except Exception:  # the first error is the one that says something
        raise CompileError(
            f"transformers cannot build this {config.model_type}: {_first_line(error)}"
        ) from error
    return model


def trace(model: PreTrainedModel) -> Trace:
    """Trace ``model`` over token ids ``[BATCH, tokens]``, where ``tokens`` stays a symbol.

    Raises:
        CompileError: its code cannot be traced; the message names the line at which it stopped.
    """
    # What the code asks about the number of tokens is not proved by torch, but checked when it is done.
    shapes = ShapeEnv(tracked_fakes=[], trace_asserts=True, prefer_deferred_runtime_asserts_over_guards=True)
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True, export=True)
    _pretend(model, mode)
    wrapped = _LogitsOnly(model)
    token_ids = torch.zeros(BATCH, _TRACED_TOKENS, dtype=torch.long)
    # Tables of positions have an end, and code that looks up in them asks for it: taking all of one is
    # another branch than taking some.
    longest, limit = longest_sequence(model.config), _limit(model.config)
    most = longest - 1 if longest is not None else None
    tokens = torch.export.Dim("tokens", min=_FEWEST_TOKENS, max=most)
    try:
        with (
            one_sequence(limit),
            standing_in(model),
            _quiet(),
            torch.no_grad(),
            tracing(TracingContext(mode)),
        ):
            program = torch.export.export(
                wrapped,
                (token_ids,),
                dynamic_shapes=({1: tokens},),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            check_guards(shapes, most)
            if _writes_in_place(program.graph_module):
                program = program.run_decompositions({})
    except IngotError as error:
        raise CompileError(f"{error}, in {source_line(error.__traceback__)}") from error
    except Exception as error:  # whatever a model's code may raise
        where = source_line(error.__traceback__)
        raise CompileError(
            f"torch cannot trace this {model.config.model_type} ({where}): {_first_line(error)}"
        ) from error
    signature = program.graph_signature
    parameters = dict(signature.inputs_to_parameters)
    buffers = dict(signature.inputs_to_buffers)
    values = buffer_values(model)
    constants = {
        placeholder: values[name.removeprefix("model.")]
        for placeholder, name in buffers.items()
        if name.removeprefix("model.") in values
    }
    for placeholder, name in signature.inputs_to_lifted_tensor_constants.items():
        constants[placeholder] = program.constants[name]
    persistent = {placeholder: name for placeholder, name in buffers.items() if placeholder not in constants}
    (user_input,) = signature.user_inputs
    return Trace(
        model=model,
        graph=program.graph,
        owner=program.graph_module,
        parameters={
            placeholder: name.removeprefix("model.")
            for placeholder, name in {**parameters, **persistent}.items()
        },
        constants=constants,
        token_ids=user_input,
    )


def longest_sequence(config: PreTrainedConfig) -> int | None:
    """The most tokens that the traced model is right for, where there is a limit."""
    text = config.get_text_config(decoder=True)
    longest = (getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    given = (number for number in (*longest, _limit(config)) if isinstance(number, int) and number > 0)
    return min(given, default=None)


def _limit(config: PreTrainedConfig) -> int | None:
    """The most tokens for which an attention that leaves some out sees all.

    A sparse attention chooses so many keys by their content, and a chunked one begins anew behind so many. We
    have neither; up to there both are plain causal attention.
    """
    text = config.get_text_config(decoder=True)
    limits = [getattr(text, "index_topk", None)]
    if "chunked_attention" in (getattr(text, "layer_types", None) or ()):
        limits.append(getattr(text, "attention_chunk_size", None))
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def _pretend(model: PreTrainedModel, mode: FakeTensorMode) -> None:
    """Let parameters and buffers be on the CPU, still without memory.

    On the meta device the constants that a model's code makes there, as of a list that it indexes with, would
    have no values.
    """
    made: dict[torch.Tensor, torch.Tensor] = {}
    with mode:
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    if parameter not in made:
                        empty = torch.empty_like(parameter, device="cpu")
                        made[parameter] = torch.nn.Parameter(empty, requires_grad=False)
                    module._parameters[name] = made[parameter]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty_like(buffer, device="cpu")


def _writes_in_place(owner: torch.fx.GraphModule) -> bool:
    """Whether an operator whose name ends with an underscore writes to what it is given."""
    return any(
        isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        for module in owner.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
        if node.op == "call_function"
    )


def _first_line(error: Exception) -> str:
    """What an error says, without advice on how to trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "TORCH_LOGS" not in line] or lines or [type(error).__name__]
    return told[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch and transformers log about a model that is only looked at to themselves."""
    loggers = [logging.getLogger(name) for name in ("torch", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
