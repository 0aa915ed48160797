"""Causal attention over one sequence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ..ir import Attribute, Module, Operation, TensorType, Value
from .base import Pass, Rewritten
from .linear_bias import find_slopes
from .patterns import Match, OneOf, Pattern, Wildcard, apply, match
from .rewriting import ModuleRewriter

__all__ = ["FuseAttention"]


def _heads_first(name: str) -> Pattern:
    """``[tokens, heads, head_dim]`` with the heads in front, in one step or two; a reshape of one head."""
    return OneOf(
        (
            apply("transpose", Wildcard(name), axes=(1, 0, 2)),
            apply("transpose", _columns_first(name), axes=(0, 2, 1)),
            apply("reshape", Wildcard(name), name=f"{name} of one head"),
        )
    )


def _columns_first(name: str) -> Pattern:
    return apply("transpose", Wildcard(name), axes=(1, 2, 0))


def _for_each_head(name: str) -> Pattern:
    """Keys or values with the heads in front, repeated where several heads share them."""
    shared = _heads_first(name)
    turned_last = apply("transpose", apply("repeat", _columns_first(name), axis=0), axes=(0, 2, 1))
    return OneOf((apply("repeat", shared, axis=0), turned_last, shared))


_MASK = OneOf(
    tuple(apply(kind, Wildcard("positions"), name="mask") for kind in ("causal_mask", "bidirectional_mask"))
)
_SCORES = apply("matmul", _heads_first("q"), apply("transpose", _for_each_head("k"), axes=(0, 2, 1)))
_SCALED = apply("mul", _SCORES, Wildcard("scale"))
_CAPPED = apply("mul", apply("tanh", apply("div", _SCALED, Wildcard("cap"))), Wildcard("full"))
_UNBIASED = OneOf((_CAPPED, _SCALED, _SCORES))
_BIASED = apply("add", _UNBIASED, apply("transpose", Wildcard("bias"), axes=(1, 2, 0)))
_SEEN_ONCE = apply("add", OneOf((_BIASED, _UNBIASED)), OneOf((_MASK, apply("reshape", _MASK))))
_SECOND_MASK = apply("causal_mask", Wildcard("positions"), name="second mask")
_SEEN = OneOf((_SEEN_ONCE, apply("add", _SEEN_ONCE, OneOf((_SECOND_MASK, apply("reshape", _SECOND_MASK))))))
_SCALED_LAST = apply("mul", apply("add", _SCORES, OneOf((_MASK, apply("reshape", _MASK)))), Wildcard("scale"))
_WEIGHTS = OneOf(
    (
        apply("softmax", _SEEN, axis=2),
        apply("softmax", _SCALED_LAST, axis=2),
        apply("softmax", _SEEN, Wildcard("sinks"), axis=2),
        apply("softmax", OneOf((_SCALED, _SCORES)), axis=2),
    )
)
_ATTENTION = apply("transpose", apply("matmul", _WEIGHTS, _for_each_head("v")), axes=(1, 0, 2))


@dataclass(frozen=True)
class FuseAttention(Pass):
    """``softmax(q @ k.T * scale + mask) @ v``, heads apart, becomes ``attention`` of a scale and window.

    So it does with scores capped, ``cap * tanh(scores / cap)``, with sinks beside the scores, and with a bias
    that grows with the key's position, a slope for each head. Where tokens see what comes after them too, it
    becomes ``bidirectional_attention``.
    """

    name: ClassVar[str] = "fuse_attention"
    requires: ClassVar[tuple[str, ...]] = ("plain", "fused")
    ensures: ClassVar[str | None] = "fused"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        positions = next((value for value in graph.inputs if value.name == "positions"), None)
        found = {
            operation: attention
            for operation in graph.operations
            if operation.operator == "transpose"
            and (attention := match(_ATTENTION, operation, graph))
            and _is_attention(attention, positions)
        }
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)

        def fuse(operation: Operation, attention: Match) -> None:
            operands = [attention[name] for name in "qkv"]
            if _is_bidirectional(attention):
                rewriter.forward.emit(
                    "bidirectional_attention",
                    *operands,
                    replaces=operation.result,
                    scale=attention.number("scale") if attention.has("scale") else 1.0,
                    window=attention.attribute("mask", "window") if attention.has("mask") else 0,
                )
                return
            if attention.has("sinks"):
                heads = attention["q"].type.shape[1]
                operands.append(rewriter.forward.emit("reshape", attention["sinks"], shape=(heads,)))
            attributes: dict[str, Attribute] = {
                "scale": attention.number("scale") if attention.has("scale") else 1.0,
                "soft_cap": attention.number("cap") if attention.has("cap") else 0.0,
                "window": _window(attention),
            }
            if (slopes := _slopes(attention)) is not None:
                attributes["slopes"] = slopes
            rewriter.forward.emit_all("attention", operands, attributes, replaces=operation.results)

        rules = {operation: partial(fuse, operation, attention) for operation, attention in found.items()}
        rewriter.forward.apply(rules)
        return Rewritten(rewriter.finish())


def _is_attention(attention: Match, positions: Value | None) -> bool:
    """Scale and cap are numbers, the mask that of the whole sequence, heads repeated, sinks one a head."""
    q, k, v = (attention[name].type for name in "qkv")
    if any(type_.rank != 3 for type_ in (q, k, v)):
        return False
    if any(attention[name].type.shape[1] != 1 for name in "qkv" if attention.has(f"{name} of one head")):
        return False
    heads, kv_heads = q.shape[1], k.shape[1]
    return (
        (not attention.has("mask") or attention["positions"] is positions)
        and (not attention.has("scale") or (attention.is_number("scale") and attention.number("scale") > 0))
        and v == k.with_shape(*k.shape[:2], v.shape[2])
        and q == TensorType((k.shape[0], heads, k.shape[2]), k.element)
        and isinstance(heads, int)
        and isinstance(kv_heads, int)
        and (not attention.has("sinks") or attention["sinks"].type == TensorType((heads, 1, 1), q.element))
        and (not attention.has("cap") or _is_cap(attention))
        and not (
            _is_bidirectional(attention) and any(map(attention.has, ("cap", "sinks", "second mask", "bias")))
        )
        and (not attention.has("bias") or _has_slopes(attention, heads))
    )


def _window(attention: Match) -> int:
    """The window of a causal mask, or the narrower of two."""
    windows = [
        int(str(attention.attribute(m, "window"))) for m in ("mask", "second mask") if attention.has(m)
    ]
    return min((window for window in windows if window), default=0)


def _is_cap(attention: Match) -> bool:
    caps = "cap", "full"
    return all(map(attention.is_number, caps)) and len({attention.number(name) for name in caps}) == 1


def _has_slopes(attention: Match, heads: int) -> bool:
    return attention["bias"].type.shape[1] == heads and _slopes(attention) is not None


def _slopes(attention: Match) -> npt.NDArray[np.float32] | None:
    """How a bias ``[tokens, heads, 1]`` grows with the position, for each head; None where there is none."""
    return find_slopes(attention.graph, attention["bias"]) if attention.has("bias") else None


def _is_bidirectional(attention: Match) -> bool:
    """Whether tokens see what comes after them."""
    if not attention.has("mask"):
        return True
    return attention.graph.producers[attention["mask"]].operator == "bidirectional_mask"
