"""Convolutions over the tokens, and recurrences that stand for transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..layout import TOKENS
from ..terms import Ahead, Term

__all__ = ["RULES"]


def _conv1d(converter: Converter, node: torch.fx.Node) -> Term:
    """Each channel by its own taps, with zeros before the first token.

    The code pads both ends alike and then takes as many results as there are tokens.
    """
    named = dict(
        zip(("x", "weight", "bias", "stride", "padding", "dilation", "groups"), node.args, strict=False)
    )
    named |= node.kwargs
    x, weight = named["x"], named["weight"]
    channels, inputs, taps = weight.meta["val"].shape
    source = converter.layout(x)
    plain = (
        list(named.get("stride", [1])) == [1]
        and list(named.get("dilation", [1])) == [1]
        and named.get("groups", 1) == channels
        and inputs == 1
    )
    if not plain or source.rank != 3 or source.sizes[2] != TOKENS:
        raise CompileError("only convolutions over the tokens, each channel with its own taps, are supported")
    if list(named.get("padding", [0])) != [taps - 1]:
        raise CompileError("only convolutions over the tokens up to each one are supported")
    matrix = converter.emit.reshape(converter.value(weight), (channels, taps))
    operands = [converter.value(x), converter.emit.transpose(matrix, (1, 0))]
    if named.get("bias") is not None:
        operands.append(converter.value(named["bias"]))
    return Ahead(converter.emit("causal_conv", *operands))


def _selective_scan(converter: Converter, node: torch.fx.Node) -> Term:
    *scanned, skip, bias = node.args
    operands = [converter.value(argument) for argument in scanned]
    heads = int(operands[0].type.shape[1])
    operands += [_or_zeros(converter, argument, heads) for argument in (skip, bias)]
    return converter.emit("selective_scan", *operands)


def _or_zeros(converter: Converter, argument: Any, size: int) -> Value:
    return (
        converter.emit.constant(np.zeros(size, np.float32)) if argument is None else converter.value(argument)
    )


def _gated_delta_rule(converter: Converter, node: torch.fx.Node) -> Term:
    operands = [converter.value(argument) for argument in node.args]
    heads = int(operands[2].type.shape[1])
    operands += [converter.emit.constant(np.full(heads, number, np.float32)) for number in (-1, 0)]
    return converter.emit("gated_delta_rule", *operands)


RULES: dict[str, Rule] = {
    "aten.conv1d": _conv1d,
    "ingot.selective_scan": _selective_scan,
    "ingot.gated_delta_rule": _gated_delta_rule,
}
