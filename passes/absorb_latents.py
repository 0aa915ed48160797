"""Multi-head latent attention over the latents themselves (DeepSeek-AI, 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

from ..ir import Graph, Module, Operation, ScalarType, Value
from .base import Pass, Rewritten
from .patterns import Match, OneOf, Wildcard, apply, match
from .rewriting import ModuleRewriter

__all__ = ["AbsorbLatents"]

_EXPANDED = apply("reshape", apply("linear", Wildcard("latents"), Wildcard("weight")), name="expanded")
_OWN = apply("slice", _EXPANDED, name="own", axis=2)
_SHARED = OneOf((apply("repeat", Wildcard("shared"), axis=1), Wildcard("shared")))
_QUERIES = apply("concat", Wildcard("own"), Wildcard("shared"), axis=2)
_KEYS = apply("concat", _OWN, _SHARED, axis=2)
_VALUES = apply("slice", _EXPANDED, name="values", axis=2)


@dataclass(frozen=True)
class AbsorbLatents(Pass):
    """``attention`` whose keys and values are made of latents becomes ``latent_attention``.

    Head h has the keys ``[A_h c, r]`` and the values ``B_h c`` of a token's latents ``c`` and of ``r``, which
    all heads share. As ``q . (A_h c) = (A_h^T q) . c``, its queries ``[q, s]`` become ``[A_h^T q, s]``
    against the row ``[c, r]`` of the token, and ``B_h`` is applied to the sum of the ``c``. So a cache holds
    one row of a token in place of keys and values of all heads; the price is that rows are longer.
    """

    name: ClassVar[str] = "absorb_latents"
    requires: ClassVar[tuple[str, ...]] = ("fused",)

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        found = {
            operation: latent
            for operation in graph.operations
            if operation.operator == "attention" and (latent := _find(operation, graph))
        }
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        rewriter.forward.apply(
            {operation: partial(_absorb, rewriter, operation, latent) for operation, latent in found.items()}
        )
        return Rewritten(rewriter.finish())


@dataclass(frozen=True, slots=True)
class _Latent:
    """An attention's queries, keys and values, each with the values it is made of."""

    queries: Match
    keys: Match
    values: Match

    def cut(self, part: Match, name: str) -> tuple[int, int]:
        """Which elements of a head of what latents expand to are a part of keys or values."""
        return cast(int, part.attribute(name, "start")), cast(int, part.attribute(name, "stop"))


def _find(attention: Operation, graph: Graph) -> _Latent | None:
    found = []
    for pattern, operand in zip((_QUERIES, _KEYS, _VALUES), attention.operands, strict=False):
        producer = graph.producers.get(operand)
        part = match(pattern, producer, graph) if producer is not None else None
        if part is None:
            return None
        found.append(part)
    latent = _Latent(*found)
    is_plain = len(attention.operands) == 3 and not (
        attention.attributes["window"] or attention.attributes["soft_cap"] or "slopes" in attention.attributes
    )
    return latent if is_plain and _is_latent(latent, graph) else None


def _is_latent(latent: _Latent, graph: Graph) -> bool:
    """Parts of queries fit parts of keys, and keys and values come from one weight and one row of latents."""
    keys, expanded = latent.keys, latent.keys["expanded"].type
    own, shared = (latent.queries[name].type for name in ("own", "shared"))
    start, stop = latent.cut(keys, "own")
    return (
        keys["expanded"] is latent.values["expanded"]
        and keys["weight"] in graph.parameters
        and isinstance(keys["weight"].type.element, ScalarType)
        and keys["latents"].type.rank == 2
        and expanded.rank == 3
        and expanded.shape[:2] == own.shape[:2]
        and stop - start == own.shape[2]
        and keys["shared"].type == shared.with_shape(shared.shape[0], 1, shared.shape[2])
    )


def _absorb(rewriter: ModuleRewriter, attention: Operation, latent: _Latent) -> None:
    forward, keys = rewriter.forward, latent.keys
    tokens, _, width = keys["shared"].type.shape
    latents = keys["latents"]
    of_keys, of_values = _weights(rewriter, latent)
    own = forward.emit("head_linear", latent.queries["own"], of_keys)
    queries = forward.emit("concat", own, latent.queries["shared"], axis=2)
    shared = forward.emit("reshape", keys["shared"], shape=(tokens, width))
    mixed = forward.emit(
        "latent_attention",
        queries,
        forward.emit("concat", latents, shared, axis=1),
        scale=attention.attributes["scale"],
        value_dim=latents.type.shape[1],
    )
    forward.emit("head_linear", mixed, of_values, replaces=attention.result)


def _weights(rewriter: ModuleRewriter, latent: _Latent) -> tuple[Value, Value]:
    """``A_h`` transposed, ``[heads, latents, n]``, and ``B_h``, ``[heads, m, latents]``, of all heads."""
    weight = latent.keys["weight"]
    _, heads, size = latent.keys["expanded"].type.shape
    shape = (heads, size, weight.type.shape[1])
    both = rewriter.compute("reshape", rewriter.prepared(weight), name=f"{weight.name}.heads", shape=shape)

    def part(of: Match, cut: str, name: str) -> Value:
        start, stop = latent.cut(of, cut)
        return rewriter.compute("slice", both, name=f"{weight.name}.{name}", axis=1, start=start, stop=stop)

    keys = part(latent.keys, "own", "of_keys")
    turned = rewriter.compute("transpose", keys, name=f"{weight.name}.keys", axes=(0, 2, 1))
    values = part(latent.values, "values", "values")
    return rewriter.add_parameter(turned), rewriter.add_parameter(values)
