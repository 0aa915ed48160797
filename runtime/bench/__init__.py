"""Measuring an engine: how fast, how soon, how much memory, and how near to what this machine can do."""

from .benchmark import BenchOptions, run_benchmark
from .records import (
    BenchRecord,
    FractionOfLimit,
    GroupRecord,
    HostRecord,
    Percentiles,
    RunRecord,
    StepProfile,
    StepShare,
)

__all__ = [
    "BenchOptions",
    "BenchRecord",
    "FractionOfLimit",
    "GroupRecord",
    "HostRecord",
    "Percentiles",
    "RunRecord",
    "StepProfile",
    "StepShare",
    "run_benchmark",
]
