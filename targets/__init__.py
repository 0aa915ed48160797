"""Targets, the host, and the manifest's schema."""

from .cuda import CudaGpu, CudaTarget, find_gpus
from .host import Host, available_memory_bytes, detect_host, read_host
from .manifest import Manifest, read_manifest, write_manifest
from .metal import MetalGpu, MetalTarget, find_metal_gpu
from .target import CPUS, AnyTarget, Caches, Target, parse_target, parse_targets, supported_targets

__all__ = [
    "CPUS",
    "AnyTarget",
    "Caches",
    "CudaGpu",
    "CudaTarget",
    "Host",
    "Manifest",
    "MetalGpu",
    "MetalTarget",
    "Target",
    "available_memory_bytes",
    "detect_host",
    "find_gpus",
    "find_metal_gpu",
    "parse_target",
    "parse_targets",
    "read_host",
    "read_manifest",
    "supported_targets",
    "write_manifest",
]
