"""Lowering a module, by the rules of all topics."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import tvm

from ...ir import Module
from ...ir.errors import CompileError
from ..kernels.isa import Isa
from . import pointwise, products, rearranging, states
from .step import MAX_STEP_TOKENS, Rule, Step

__all__ = ["lower"]

_RULES: Mapping[str, Rule] = MappingProxyType(
    {**rearranging.RULES, **pointwise.RULES, **products.RULES, **states.RULES}
)


def lower(module: Module, isa: Isa, max_step_tokens: int = MAX_STEP_TOKENS) -> tvm.IRModule:
    """The module's step as a Relax function :data:`ENTRY` over kernels for ``isa``.

    Steps of up to ``max_step_tokens`` are planned for. Raises :class:`CompileError` for an operator that has
    no kernel, or operands no kernel takes.
    """
    if module.stage not in ("paged", "ragged"):
        raise CompileError(f"only paged and ragged modules can be lowered, not one at stage {module.stage}")
    return Step(module.forward, isa, _RULES, max_step_tokens).run()
