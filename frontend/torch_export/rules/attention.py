"""Attention and its mask, in the plain form that the passes know."""

from __future__ import annotations

from typing import cast

import torch

from ....ir.errors import CompileError
from ..converter import Converter, Rule
from ..layout import TOKENS
from ..terms import Mask, MaskForm, Term

__all__ = ["RULES"]


def _causal_mask(converter: Converter, node: torch.fx.Node) -> Term:
    window, problem = cast("tuple[int, str]", node.args[2:4])
    if problem:
        raise CompileError(problem)
    return Mask(window)


def _attention(converter: Converter, node: torch.fx.Node) -> Term:
    """``softmax(q @ k.T * scale + mask) @ v`` of each head, with a soft cap and sinks where there are any."""
    q, k, v, mask, sinks = node.args[:5]
    scale, soft_cap, window = cast("tuple[float, float, int]", node.args[5:8])
    bias = None
    if mask is not None:
        seen = converter.term(mask)
        if isinstance(seen, Mask) and seen.form is MaskForm.ADDED:
            window = seen.window
        else:
            bias = converter.value(mask)  # the causal mask is in it
    emit = converter.emit
    queries, keys, values = (emit("transpose", converter.value(x), axes=(1, 0, 2)) for x in (q, k, v))
    group = int(queries.type.shape[0]) // int(keys.type.shape[0])
    keys, values = (emit.repeat(x, 0, group) for x in (keys, values))
    scores = emit("matmul", queries, emit("transpose", keys, axes=(0, 2, 1)))
    scores = emit("mul", scores, emit.number(scale))
    if soft_cap:
        cap = emit.number(soft_cap)
        scores = emit("mul", emit("tanh", emit("div", scores, cap)), cap)
    seen_mask = bias if bias is not None else emit.reshape(converter.mask(window), (1, TOKENS, TOKENS))
    operands = [emit("add", scores, seen_mask)]
    if sinks is not None:
        logits = converter.value(sinks)
        operands.append(emit.reshape(logits, (queries.type.shape[0], 1, 1)))
    weights = emit("softmax", *operands, axis=2)
    return emit("transpose", emit("matmul", weights, values), axes=(1, 0, 2))


RULES: dict[str, Rule] = {"ingot.causal_mask": _causal_mask, "ingot.attention": _attention}
