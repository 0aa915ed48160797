"""One row of each sequence's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from ...ir import Operation, ScalarType
from .batch import HIDDEN, Batch
from .step import Rule, Step

__all__ = ["RULES"]


def _pool(step: Step, operation: Operation) -> None:
    rows, starts, _ = operation.operands
    batch, name, result = Batch(step, starts), step.name(rows), operation.result
    match cast(str, operation.attributes["kind"]):
        case "first":
            step.emit("Gather", name, batch.firsts, result=result, axis=0)
        case "last":
            last = step.emit("Sub", batch.ends, step.constant(1))
            step.emit("Gather", name, last, result=result, axis=0)
        case "max":
            absent = step.constant(np.array(HIDDEN, np.float32))
            there = step.unsqueeze(batch.is_token, 2)
            spread = step.emit("Where", there, batch.spread(name), absent)
            step.emit("ReduceMax", spread, step.constant([1]), result=result, keepdims=0)
        case _:
            there = step.unsqueeze(step.cast(batch.is_token, ScalarType.FLOAT32), 2)
            kept = step.emit("Mul", batch.spread(name), there)
            total = step.emit("ReduceSum", kept, step.constant([1]), keepdims=0)
            counts = step.unsqueeze(step.cast(batch.counts, ScalarType.FLOAT32), 1)
            step.emit("Div", total, counts, result=result)


RULES: Mapping[str, Rule] = {"pool": _pool}
"""By operator."""
