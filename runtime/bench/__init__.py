"""Measuring an engine: how fast, how soon, how much memory, and how near to what this machine can do."""

from .benchmark import BenchOptions, run_benchmark
from .peers import PEERS, Comparison
from .records import (
    BenchRecord,
    FractionOfLimit,
    GroupRecord,
    HostRecord,
    PeerRecord,
    PeerRun,
    Percentiles,
    RunRecord,
    StepProfile,
    StepShare,
)

__all__ = [
    "PEERS",
    "BenchOptions",
    "BenchRecord",
    "Comparison",
    "FractionOfLimit",
    "GroupRecord",
    "HostRecord",
    "PeerRecord",
    "PeerRun",
    "Percentiles",
    "RunRecord",
    "StepProfile",
    "StepShare",
    "run_benchmark",
]
