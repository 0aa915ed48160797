"""From a paged or a ragged module to ONNX: each operator becomes a few nodes.

Standard operators where they serve, those of ``com.microsoft`` where ONNX has none: products of codes,
look-ups in tables of codes, norms with a residual. To say another operator, write a rule beside its like and
name it in that module's ``RULES``.
"""

from .build import build_onnx

__all__ = ["build_onnx"]
