"""The way of a module through the passes, as one list."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..ir import Module, ScalarType, TensorType, verify
from ..ir.errors import CompileError
from .absorb_latents import AbsorbLatents
from .assignment import Assignment
from .base import Pass
from .batch_sequences import BatchSequences
from .cache_types import CacheType
from .cast_rows import CastRows
from .cast_weights import CastWeights
from .drop_neutral_terms import DropNeutralTerms
from .eliminate_common_subexpressions import EliminateCommonSubexpressions
from .eliminate_dead_code import EliminateDeadCode
from .fix_length import FixLength
from .fold_constants import FoldConstants
from .fuse_activations import FuseActivations
from .fuse_attention import FuseAttention
from .fuse_gate_up import FuseGateUp
from .fuse_norms import FuseNorms
from .fuse_qkv import FuseQKV
from .fuse_rope import FuseRope
from .merge_routes import MergeRoutes
from .page_kv_cache import PageKVCache
from .quantize_weights import QuantizeWeights
from .round_rows import RoundRows
from .split_linears import SplitLinears
from .store_constants import StoreConstants
from .tabulate_rope import TabulateRope
from .take_calibrated import TakeCalibrated

__all__ = [
    "Checker",
    "PassRecord",
    "PipelineOptions",
    "PipelineResult",
    "build_pipeline",
    "fusing_passes",
    "run_passes",
]


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What a user chooses. ``assignment`` None quantizes nothing; ``calibrated`` are the types of the
    parameters that a calibration found, by name; ``dtype`` None keeps the checkpoint's type.

    ``max_seq_len`` is the longest sequence in tokens, ``page_size`` a page's length in tokens (None: as
    :class:`PageKVCache` chooses), and ``kv_cache`` what the cache is made of. A model that does not generate,
    but gives a vector of a whole sequence, has no cache.
    """

    max_seq_len: int
    assignment: Assignment | None = None
    calibrated: Mapping[str, TensorType] = field(default_factory=dict)
    dtype: ScalarType | None = None
    page_size: int | None = None
    kv_cache: CacheType = CacheType.FLOAT16
    generates: bool = True


def build_pipeline(options: PipelineOptions) -> tuple[Pass, ...]:
    """The passes from a frontend's plain module to one step, over pages or over whole sequences."""
    return (
        *fusing_passes(options),
        # Weights. Quantizing comes before joining, which only weights in one format can be, and before
        # casting, so that nothing is rounded twice.
        *((TakeCalibrated(options.calibrated),) if options.calibrated else ()),
        *((QuantizeWeights(options.assignment),) if options.assignment is not None else ()),
        RoundRows(),
        FuseQKV(),
        FuseGateUp(),
        CastWeights(options.dtype),
        # The batch, and the cache.
        PageKVCache(options.page_size, options.kv_cache) if options.generates else BatchSequences(),
        # After that, so that the head's rows are rounded which are chosen for it.
        CastRows(options.dtype),
        # What all this left behind.
        FoldConstants(),
        StoreConstants(),
        EliminateCommonSubexpressions(),
        EliminateDeadCode(),
    )


def fusing_passes(options: PipelineOptions) -> tuple[Pass, ...]:
    """The first part of :func:`build_pipeline`: to where weights have their final form, and none is rounded.

    The module is still over one whole sequence; weights are calibrated on it.
    """
    return (
        # What the model's authors wrote, without repetition.
        FixLength(options.max_seq_len),
        DropNeutralTerms(),
        FoldConstants(),
        EliminateCommonSubexpressions(),
        EliminateDeadCode(),
        # Patterns become operators.
        FuseRope(),
        TabulateRope(options.max_seq_len),
        FuseNorms(),
        FuseActivations(),
        MergeRoutes(),
        FuseAttention(),
        *((AbsorbLatents(),) if options.generates else ()),
        SplitLinears(),
    )


class Checker(Protocol):
    """Runs modules, to see what a pass did to the numbers."""

    def largest_difference(self, before: Module, after: Module) -> float:
        """The largest absolute difference between the two modules' logits, on the same inputs."""
        ...

    def tolerance(self, module: Module) -> float:
        """The largest difference that is no fault in a pass that preserves ``module``'s values."""
        ...


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did: for the manifest."""

    name: str
    modified: bool
    seconds: float
    largest_difference: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """The last module, and what each pass did."""

    module: Module
    records: tuple[PassRecord, ...]


def run_passes(
    module: Module,
    passes: Sequence[Pass],
    *,
    check: Checker | None = None,
    dump: Callable[[str, Module], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> PipelineResult:
    """Run ``passes`` in order; the verifier runs before the first and after each that modifies.

    ``check`` measures what each does to the logits, ``dump`` is given each module with a label that sorts in
    order (``00_input``, ``01_fold_constants``, ...), and ``progress`` each pass's name before it runs.
    Raises :class:`VerificationError` for a module that breaks a rule, and :class:`CompileError` for a pass
    that should preserve values and does not.
    """
    verify(module)
    if dump is not None:
        dump("00_input", module)
    records = []
    for number, step in enumerate(passes, start=1):
        if progress is not None:
            progress(step.name)
        started = time.perf_counter()
        result = step.run(module)
        if result.modified:
            verify(result.module)
        seconds = time.perf_counter() - started
        difference = None
        if check is not None:
            difference = _difference(step, module, result.module, check) if result.modified else 0.0
        module = result.module
        if dump is not None:
            dump(f"{number:02}_{step.name}", module)
        records.append(PassRecord(step.name, result.modified, seconds, difference, result.notes))
    return PipelineResult(module, tuple(records))


def _difference(step: Pass, before: Module, after: Module, check: Checker) -> float:
    difference = check.largest_difference(before, after)
    if step.preserves_values and not difference <= (most := check.tolerance(before)):
        raise CompileError(
            f"{step.name} changed the logits by {difference:.3g}, where at most {most:.3g} can be rounding"
        )
    return difference
