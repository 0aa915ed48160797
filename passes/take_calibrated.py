"""What calibration found in the place of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..ir import Module, QuantFormat, TensorType, Value
from .assignment import weight_of
from .base import Pass, Rewritten
from .quantize_weights import activations_for
from .rewriting import ModuleRewriter

__all__ = ["TakeCalibrated", "calibrated_name"]

_PRODUCTS = ("linear", "expert_linear", "head_linear")


@dataclass(frozen=True)
class TakeCalibrated(Pass):
    """Parameters named in ``found``, whose types are given there, come from the calibration.

    They are tensors of the checkpoint's then, called as :func:`calibrated_name` says. Rows that meet weights
    in a format are rounded as :class:`.QuantizeWeights` does it.
    """

    found: Mapping[str, TensorType]

    name: ClassVar[str] = "take_calibrated"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized")
    ensures: ClassVar[str | None] = "quantized"

    @property
    def preserves_values(self) -> bool:
        """It rounds."""
        return False

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        taken = [value for value in module.forward.parameters if value.name in self.found]
        if not taken:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        forward = rewriter.forward
        for value in taken:
            type_ = self.found[value.name]
            tensor = rewriter.add_tensor(calibrated_name(value.name, type_), type_)
            forward.replace(value, rewriter.add_parameter(tensor))
        rounded: dict[tuple[Value, QuantFormat], Value] = {}
        for operation in module.forward.operations:
            if operation.operator in _PRODUCTS and weight_of(operation) in taken:
                rows, activations = (
                    operation.operands[0],
                    activations_for(forward.now(weight_of(operation)).type),
                )
                if activations is not None:
                    if (rows, activations) not in rounded:
                        made = forward.emit("quantize", rows, format=activations.name)
                        rounded[rows, activations] = made
                    operands = rounded[rows, activations], *operation.operands[1:]
                    forward.emit(operation.operator, *operands, replaces=operation.result)
                    continue
            forward.copy(operation)
        return Rewritten(rewriter.finish())


def calibrated_name(parameter: str, type_: TensorType) -> str:
    """What a tensor is called that stands for ``parameter``."""
    element = type_.element
    return f"{parameter}.{element.name}" if isinstance(element, QuantFormat) else f"{parameter}.scaled"
