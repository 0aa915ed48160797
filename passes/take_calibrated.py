"""What calibration found in the place of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..ir import Module, QuantFormat, TensorType
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["TakeCalibrated", "calibrated_name"]


@dataclass(frozen=True)
class TakeCalibrated(Pass):
    """Parameters named in ``found``, whose types are given there, come from the calibration.

    They are tensors of the checkpoint's then, called as :func:`calibrated_name` says.
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
        forward.apply({})
        return Rewritten(rewriter.finish())


def calibrated_name(parameter: str, type_: TensorType) -> str:
    """What a tensor is called that stands for ``parameter``."""
    element = type_.element
    return f"{parameter}.{element.name}" if isinstance(element, QuantFormat) else f"{parameter}.scaled"
