"""Passes: from a model as its authors wrote it to one step over pages, fused and quantized."""

from .absorb_latents import AbsorbLatents
from .assignment import SCHEMES, Assignment, QuantScheme, find_assignment
from .base import Pass, PassResult
from .batch_sequences import BatchSequences
from .cache_types import CacheType
from .cast_rows import CastRows
from .cast_weights import CastWeights
from .checking import InterpreterChecker
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
from .pipeline import (
    Checker,
    PassRecord,
    PipelineOptions,
    PipelineResult,
    build_pipeline,
    fusing_passes,
    run_passes,
)
from .quantize_weights import QuantizeWeights
from .round_rows import RoundRows
from .split_linears import SplitLinears
from .store_constants import StoreConstants
from .tabulate_rope import TabulateRope
from .take_calibrated import TakeCalibrated, calibrated_name
from .topology import Topology, parse_topology, print_topology, read_topology

__all__ = [
    "SCHEMES",
    "AbsorbLatents",
    "Assignment",
    "BatchSequences",
    "CacheType",
    "CastRows",
    "CastWeights",
    "Checker",
    "DropNeutralTerms",
    "EliminateCommonSubexpressions",
    "EliminateDeadCode",
    "FixLength",
    "FoldConstants",
    "FuseActivations",
    "FuseAttention",
    "FuseGateUp",
    "FuseNorms",
    "FuseQKV",
    "FuseRope",
    "InterpreterChecker",
    "MergeRoutes",
    "PageKVCache",
    "Pass",
    "PassRecord",
    "PassResult",
    "PipelineOptions",
    "PipelineResult",
    "QuantScheme",
    "QuantizeWeights",
    "RoundRows",
    "SplitLinears",
    "StoreConstants",
    "TabulateRope",
    "TakeCalibrated",
    "Topology",
    "build_pipeline",
    "calibrated_name",
    "find_assignment",
    "fusing_passes",
    "parse_topology",
    "print_topology",
    "read_topology",
    "run_passes",
]
