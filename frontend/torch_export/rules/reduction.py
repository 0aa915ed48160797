"""Operators that reduce along a dimension, and norms, as what they are made of."""

from __future__ import annotations

from typing import cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..terms import Term

__all__ = ["RULES"]


def _mean(converter: Converter, node: torch.fx.Node) -> Term:
    mean, _ = _mean_of(converter, node)
    return converter.emit.reshape(mean, converter.layout(node).shape)


def _sum(converter: Converter, node: torch.fx.Node) -> Term:
    mean, size = _mean_of(converter, node)
    total = converter.emit("mul", mean, converter.emit.number(float(size)))
    return converter.emit.reshape(total, converter.layout(node).shape)


def _mean_of(converter: Converter, node: torch.fx.Node) -> tuple[Value, int]:
    """The mean along the one dimension that is asked for, kept as 1, and the dimension's size."""
    source = cast(torch.fx.Node, node.args[0])
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    if not isinstance(dims, list | tuple) or len(dims) != 1:
        raise CompileError("only a mean or a sum along one dimension is supported")
    axis = converter.axis(source, cast(int, dims[0]))
    value = converter.value(source)
    size = value.type.shape[axis]
    if not isinstance(size, int):
        raise CompileError("a mean or a sum over the tokens is not supported")
    return converter.emit("mean", value, axis=axis), size


def _vector_norm(converter: Converter, node: torch.fx.Node) -> Term:
    """The sum of magnitudes, or the root of the sum of squares, along one dimension."""
    emit = converter.emit
    source = cast(torch.fx.Node, node.args[0])
    order = node.args[1] if len(node.args) > 1 else node.kwargs.get("ord", 2)
    dims = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    if order not in (1, 2) or not isinstance(dims, list | tuple) or len(dims) != 1:
        raise CompileError("only norms of order 1 and 2 along one dimension are supported")
    axis = converter.axis(source, cast(int, dims[0]))
    x = converter.value(source)
    size = x.type.shape[axis]
    if not isinstance(size, int):
        raise CompileError("a norm over the tokens is not supported")
    terms = emit("square", x) if order == 2 else emit("maximum", x, emit("neg", x))
    total = emit("mul", emit("mean", terms, axis=axis), emit.number(float(size)))
    norm = emit("pow", total, emit.number(0.5)) if order == 2 else total
    return emit.reshape(norm, converter.layout(node).shape)


def _softmax(converter: Converter, node: torch.fx.Node) -> Term:
    source = cast(torch.fx.Node, node.args[0])
    return converter.emit(
        "softmax", converter.value(source), axis=converter.axis(source, cast(int, node.args[1]))
    )


def _layer_norm(converter: Converter, node: torch.fx.Node) -> Term:
    """``(x - mean) * rsqrt(mean((x - mean) ** 2) + epsilon) * weight + bias`` (Ba et al., 2016)."""
    arguments = dict(zip(("x", "shape", "weight", "bias", "eps"), node.args, strict=False)) | dict(
        node.kwargs
    )
    if len(cast("list[int]", arguments["shape"])) != 1:
        raise CompileError("only norms over one dimension are supported")
    emit, x = converter.emit, converter.value(arguments["x"])
    axis = x.type.rank - 1
    centred = emit("sub", x, emit("mean", x, axis=axis))
    variance = emit("mean", emit("square", centred), axis=axis)
    epsilon = emit.number(cast(float, arguments.get("eps", 1e-5)))
    normed = emit("mul", centred, emit("rsqrt", emit("add", variance, epsilon)))
    if arguments.get("weight") is not None:
        normed = emit("mul", normed, converter.value(arguments["weight"]))
    if arguments.get("bias") is not None:
        normed = emit("add", normed, converter.value(arguments["bias"]))
    return normed


def _rms_norm(converter: Converter, node: torch.fx.Node) -> Term:
    """``x * rsqrt(mean(x ** 2) + epsilon) * weight`` (Zhang and Sennrich, 2019)."""
    arguments = dict(zip(("x", "shape", "weight", "eps"), node.args, strict=False)) | dict(node.kwargs)
    if len(cast("list[int]", arguments["shape"])) != 1:
        raise CompileError("only norms over one dimension are supported")
    emit, x = converter.emit, converter.value(arguments["x"])
    mean = emit("mean", emit("square", x), axis=x.type.rank - 1)
    epsilon = arguments.get("eps")
    number = torch.finfo(torch.float32).eps if epsilon is None else cast(float, epsilon)
    normed = emit("mul", x, emit("rsqrt", emit("add", mean, emit.number(number))))
    if arguments.get("weight") is not None:
        normed = emit("mul", normed, converter.value(arguments["weight"]))
    return normed


RULES: dict[str, Rule] = {
    "aten.mean": _mean,
    "aten.sum": _sum,
    "aten.linalg_vector_norm": _vector_norm,
    "aten.softmax": _softmax,
    "aten._softmax": _softmax,
    "aten.layer_norm": _layer_norm,
    "aten.rms_norm": _rms_norm,
}
