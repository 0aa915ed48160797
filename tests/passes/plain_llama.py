"""A llama as a frontend writes it, plain operator by plain operator, with every dimension another number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from ingot.ir import GraphBuilder, Module, ScalarType, TensorType, Value, bind_shape

__all__ = ["PlainLlama"]


@dataclass(frozen=True)
class PlainLlama:
    """Sizes of a model, its plain module, and random weights for it."""

    layers: int = 2
    vocab: int = 37
    hidden: int = 96
    intermediate: int = 160
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 8
    window: int = 0
    tied: bool = True
    biases: bool = False
    qk_norm: bool = False
    weight_type: ScalarType = ScalarType.BFLOAT16
    attention_factor: float | None = None
    dynamic_rope: bool = False

    def module(self) -> Module:
        return _Writer(self).write()

    def weights(self, name: str) -> npt.NDArray[Any]:
        """The checkpoint's tensor ``name``: the same for the same name."""
        shape = next(v.type.shape for v in self.module().prepare.inputs if v.name == name)
        generator = np.random.default_rng(sum(name.encode()))
        sizes = bind_shape(shape, {})
        array = generator.standard_normal(sizes) * (1.0 if len(sizes) == 1 else sizes[-1] ** -0.5)
        dtype = np.float32 if self.weight_type is ScalarType.FLOAT32 else ml_dtypes.bfloat16
        return array.astype(dtype)


class _Writer:
    def __init__(self, model: PlainLlama) -> None:
        self.m = model
        self.b = GraphBuilder()
        self.token_ids = self.b.input("token_ids", ["tokens"], ScalarType.INT32)
        self.positions = self.b.input("positions", ["tokens"], ScalarType.INT32)

    def weight(self, name: str, *shape: int) -> Value:
        return self.b.parameter(name, TensorType(shape, self.m.weight_type))

    def float32(self, value: Value) -> Value:
        return value if value.type.element is ScalarType.FLOAT32 else self.b.emit("cast", value, to="float32")

    def number(self, value: float) -> Value:
        return self.b.constant(np.array([value], np.float32))

    def norm(self, x: Value, name: str) -> Value:
        weight = self.float32(self.weight(name, int(x.type.shape[-1])))
        mean = self.b.emit("mean", self.b.emit("square", x), axis=x.type.rank - 1)
        inverse = self.b.emit("rsqrt", self.b.emit("add", mean, self.number(1e-5)))
        return self.b.emit("mul", self.b.emit("mul", x, inverse), weight)

    def linear(self, x: Value, name: str, size: int, bias: bool = False) -> Value:
        operands = [x, self.weight(f"{name}.weight", size, int(x.type.shape[-1]))]
        if bias:
            operands.append(self.float32(self.weight(f"{name}.bias", size)))
        return self.b.emit("linear", *operands)

    def rotary_tables(self) -> tuple[Value, Value]:
        b, half = self.b, self.m.head_dim // 2
        frequencies = b.constant((10000.0 ** (-np.arange(half) / half)).astype(np.float32))
        positions = b.emit("reshape", b.emit("cast", self.positions, to="float32"), shape=("tokens", 1))
        row = b.emit("reshape", frequencies, shape=(1, half))
        if self.m.dynamic_rope:  # each token's own length stretches the base
            length = b.emit("maximum", b.emit("add", positions, self.number(1.0)), self.number(8.0))
            scale = b.emit("pow", b.emit("div", length, self.number(8.0)), self.number(1.2))
            row = b.emit("pow", scale, b.constant((-np.arange(half) / half).astype(np.float32)[None]))
        angles = b.emit("mul", positions, row)
        angles = b.emit("concat", angles, angles, axis=1)
        tables = []
        for function in ("cos", "sin"):
            table = b.emit(function, angles)
            if self.m.attention_factor is not None:
                table = b.emit("mul", table, self.number(self.m.attention_factor))
            tables.append(b.emit("reshape", table, shape=("tokens", 1, self.m.head_dim)))
        return tables[0], tables[1]

    def rope(self, x: Value, tables: tuple[Value, Value]) -> Value:
        b, width = self.b, self.m.head_dim
        second = b.emit("slice", x, axis=2, start=width // 2, stop=width)
        first = b.emit("slice", x, axis=2, start=0, stop=width // 2)
        rotated = b.emit("concat", b.emit("neg", second), first, axis=2)
        return b.emit("add", b.emit("mul", x, tables[0]), b.emit("mul", rotated, tables[1]))

    def attention(self, q: Value, k: Value, v: Value) -> Value:
        b, m = self.b, self.m
        q, k, v = (b.emit("transpose", x, axes=(1, 0, 2)) for x in (q, k, v))
        if m.heads != m.kv_heads:
            k, v = (b.emit("repeat", x, axis=0, times=m.heads // m.kv_heads) for x in (k, v))
        scores = b.emit("matmul", q, b.emit("transpose", k, axes=(0, 2, 1)))
        scores = b.emit("mul", scores, self.number(m.head_dim**-0.5))
        mask = b.emit("causal_mask", self.positions, window=m.window)
        scores = b.emit("add", scores, b.emit("reshape", mask, shape=(1, "tokens", "tokens")))
        mixed = b.emit("matmul", b.emit("softmax", scores, axis=2), v)
        mixed = b.emit("transpose", mixed, axes=(1, 0, 2))
        return b.emit("reshape", mixed, shape=("tokens", m.heads * m.head_dim))

    def layer(self, x: Value, prefix: str, tables: tuple[Value, Value]) -> Value:
        b, m = self.b, self.m
        rows = self.norm(x, f"{prefix}.input_layernorm.weight")
        projected = []
        for letter, heads in (("q", m.heads), ("k", m.kv_heads), ("v", m.kv_heads)):
            name = f"{prefix}.self_attn.{letter}_proj"
            y = self.linear(rows, name, heads * m.head_dim, m.biases)
            y = b.emit("reshape", y, shape=("tokens", heads, m.head_dim))
            if letter != "v":
                y = self.norm(y, f"{prefix}.self_attn.{letter}_norm.weight") if m.qk_norm else y
                y = self.rope(y, tables)
            projected.append(y)
        x = b.emit("add", x, self.linear(self.attention(*projected), f"{prefix}.self_attn.o_proj", m.hidden))
        rows = self.norm(x, f"{prefix}.post_attention_layernorm.weight")
        gate = self.linear(rows, f"{prefix}.mlp.gate_proj", m.intermediate)
        up = self.linear(rows, f"{prefix}.mlp.up_proj", m.intermediate)
        gated = b.emit("mul", b.emit("silu", gate), up)
        return b.emit("add", x, self.linear(gated, f"{prefix}.mlp.down_proj", m.hidden))

    def write(self) -> Module:
        m = self.m
        table = self.weight("model.embed_tokens.weight", m.vocab, m.hidden)
        x = self.b.emit("embedding", table, self.token_ids)
        tables = self.rotary_tables()
        for layer in range(m.layers):
            x = self.layer(x, f"model.layers.{layer}", tables)
        x = self.norm(x, "model.norm.weight")
        head = table if m.tied else self.weight("lm_head.weight", m.vocab, m.hidden)
        forward = self.b.build(self.b.emit("linear", x, head, name="logits"))
        prepare = GraphBuilder()
        for parameter in forward.parameters:
            prepare.input(parameter.name, parameter.type.shape, parameter.type.scalar)
        graph = prepare.build()
        return Module("llama", "plain", prepare.build(*graph.inputs), forward)
