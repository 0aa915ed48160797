"""Whole sequences side by side, for models that give a vector for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Attribute, Module, Operation, ScalarType, Value
from ..ir.errors import CompileError
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["BatchSequences"]


@dataclass(frozen=True)
class BatchSequences(Pass):
    """From a model that gives a vector of one whole sequence to one step over a ragged batch of them.

    Each attention becomes ``ragged_attention``, within sequences, and ``pool`` gives a row for each of them:
    see :mod:`ingot.ir.operators.embedding`. Nothing is kept between steps, and nothing is padded. Raises
    :class:`CompileError` where tokens of different sequences would still mix, or where no ``pool`` makes the
    output's rows.
    """

    name: ClassVar[str] = "batch_sequences"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized", "ragged")
    ensures: ClassVar[str | None] = "ragged"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        if module.stage == "ragged":
            return Rewritten(module)
        graph = module.forward
        self._check(graph.operations, graph.outputs)
        rewriter = ModuleRewriter(module)
        builder = rewriter.forward.builder
        starts = builder.input("sequence_starts", ["sequence_bounds"], ScalarType.INT32)
        lengths = builder.input("context_lengths", ["sequences"], ScalarType.INT32)

        def attend(operation: Operation) -> None:
            attributes: dict[str, Attribute] = {key: operation.attributes[key] for key in ("scale", "window")}
            attributes["causal"] = operation.operator == "attention"
            operands = (*operation.operands, starts)
            rewriter.forward.emit_all("ragged_attention", operands, attributes, replaces=operation.results)

        def pool(operation: Operation) -> None:
            operands = (*operation.operands, starts, lengths)
            rewriter.forward.emit_all("pool", operands, operation.attributes, replaces=operation.results)

        emitters = {"attention": attend, "bidirectional_attention": attend, "pool": pool}
        rules: dict[Operation, Callable[[], None]] = {
            operation: partial(emitters[operation.operator], operation)
            for operation in graph.operations
            if operation.operator in emitters
        }
        rewriter.forward.apply(rules)
        return Rewritten(rewriter.finish())

    def _check(self, operations: Sequence[Operation], outputs: Sequence[Value]) -> None:
        for operation in operations:
            value = f"%{operation.results[0].name}"
            if operation.operator in ("causal_mask", "bidirectional_mask", "softmax"):
                raise CompileError(f"{self.name}: {operation.operator} ({value}) is part of no attention")
            if operation.operator == "attention" and (
                len(operation.operands) > 3
                or operation.attributes.get("soft_cap")
                or "slopes" in operation.attributes
            ):
                raise CompileError(
                    f"{self.name}: attention with sinks, slopes or capped scores ({value}) needs the cache "
                    "in pages"
                )
            if operation.operator in ("attention", "bidirectional_attention"):
                q, _, v = (operand.type.shape[-1] for operand in operation.operands[:3])
                if q != v:
                    raise CompileError(
                        f"{self.name}: attention whose values have {v} elements where queries have {q} "
                        f"({value}), as latent attention has it, is not supported in models that give vectors"
                    )
        if not any(operation.operator == "pool" for operation in operations) or any(
            "tokens" in output.type.shape for output in outputs
        ):
            raise CompileError(f"{self.name}: no pool makes a vector of the sequence's rows")
