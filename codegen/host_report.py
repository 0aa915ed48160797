"""What ``ingot targets`` tells: this host, and what can be built for here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..targets import Host, Target, available_memory_bytes, find_gpus, find_metal_gpu
from ..targets.cuda import ARCHITECTURES
from ..targets.devices import PROVIDERS
from ..targets.sizes import format_size
from ..targets.topology import Topology
from .cuda.build import toolchain as cuda_toolchain
from .link.zig import has_zig

__all__ = ["print_targets", "print_targets_json"]


_NEEDS_ZIG = "needs the package ziglang (the extra 'cross')"
_MACS = "Macs from M1 on"


def print_targets_json(host: Host, targets: Sequence[Target], fitting: tuple[Target, ...]) -> None:
    """Print the host and every target as one JSON document; ``fitting`` are what it runs, best first."""
    topology = host.topology
    document = {
        "host": {
            "system": host.system,
            "machine": host.machine,
            "cpu": host.cpu,
            "cores": host.num_cores,
            "memory_bytes": host.memory_bytes,
            "available_memory_bytes": available_memory_bytes(),
            "features": _features_used(host, targets),
            "withheld": {withheld.feature: withheld.reason for withheld in host.withheld},
            "processors": topology.num_processors,
            "allowed_processors": topology.num_allowed,
            "physical_cores": topology.num_physical_cores,
            "slow_cores": topology.num_slow_cores,
            "cpu_quota": topology.quota,
            "caches": [
                {"level": cache.level, "bytes": cache.num_bytes, "shared_by_cores": cache.num_cores}
                for cache in topology.caches
            ],
            "memory_nodes": [
                {"node": node.number, "bytes": node.num_bytes, "processors": sorted(node.processors)}
                for node in topology.nodes
            ],
            "huge_pages": topology.huge_pages or None,
            "amx": _amx(host),
            "onnx_runtime": _onnx_runtime(),
        },
        "default": fitting[0].name if fitting else None,
        "targets": [
            {
                "name": target.name,
                "system": target.system,
                "machine": target.machine,
                "isa": target.isa,
                "features": sorted(target.features),
                "runs_here": target in fitting,
                "can_be_built": not _missing_tool(target),
            }
            for target in targets
        ],
        "gpus": [
            {"name": name, "architecture": architecture, "memory_bytes": num_bytes}
            for name, architecture, num_bytes in _gpus()
        ],
        "gpu_targets": [
            {
                "name": f"cuda:{architecture}",
                "gpus": gpus,
                "runs_here": any(gpu.runs(architecture) for gpu in find_gpus()),
                "can_be_built": bool(cuda_toolchain()),
            }
            for architecture, gpus in ARCHITECTURES.items()
        ]
        + [
            {
                "name": "metal",
                "gpus": _MACS,
                "runs_here": find_metal_gpu() is not None,
                "can_be_built": has_zig(),
            }
        ],
    }
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))


def print_targets(host: Host, targets: Sequence[Target], fitting: tuple[Target, ...]) -> None:
    """Print the host and every target; ``fitting`` are those the host runs, best first."""
    console = Console(highlight=False, markup=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(host, targets):
        facts.add_row(name, value)
    console.print(facts)
    table = Table("target", "system", "kernels", "here", box=SIMPLE_HEAD)
    for target in targets:
        table.add_row(
            target.name, f"{target.system} {target.machine}", target.isa, _here(target, host, fitting)
        )
    for architecture, gpus in ARCHITECTURES.items():
        runs = any(gpu.runs(architecture) for gpu in find_gpus())
        table.add_row(f"cuda:{architecture}", gpus, "tensor cores", "runs" if runs else "")
    table.add_row("metal", _MACS, "simdgroups", "runs" if find_metal_gpu() else "")
    console.print(table)
    missing = {_missing_tool(target): target.system for target in targets if _missing_tool(target)}
    if not has_zig():
        missing[_NEEDS_ZIG] += " and Metal"
    if not cuda_toolchain():
        missing["needs nvcc, or NVRTC (the extra 'cuda')"] = "CUDA"
    buildable = ", except ".join(["All can be built here", *(f"{s}: {tool}" for tool, s in missing.items())])
    console.print(f"{buildable}. 'cpu' stands for the default, without what this process cannot use.")


def _facts(host: Host, targets: Iterable[Target]) -> Iterator[tuple[str, str]]:
    """The host, line by line."""
    topology = host.topology
    yield "this host", f"{host.cpu}, {host.system} {host.machine}"
    yield "cores", _cores(host.num_cores, topology)
    caches = (
        f"L{cache.level} {format_size(cache.num_bytes)}{'' if cache.num_cores == 1 else ' shared'}"
        for cache in topology.caches
    )
    yield "caches", ", ".join(caches) or "not told"
    yield (
        "memory",
        f"{format_size(host.memory_bytes)}, {format_size(available_memory_bytes())} available"
        + (f", on {len(topology.nodes)} nodes" if len(topology.nodes) > 1 else "")
        + (f", huge pages: {topology.huge_pages}" if topology.huge_pages else ""),
    )
    gpus = (f"{name} ({architecture}, {format_size(num_bytes)})" for name, architecture, num_bytes in _gpus())
    yield "GPU", ", ".join(gpus) or "neither an NVIDIA driver nor Metal shows one"
    yield "features", ", ".join(_features_used(host, targets)) or "none that is used"
    yield "AMX", _amx(host)
    yield (
        "ONNX Runtime",
        _onnx_runtime() or "not installed; pip install '.[onnx]' in ingot's repository brings it",
    )
    reasons = dict.fromkeys(withheld.reason for withheld in host.withheld)
    for reason in reasons:
        names = (withheld.feature for withheld in host.withheld if withheld.reason == reason)
        yield "not used", f"{', '.join(names)}: {reason}"


def _gpus() -> Iterator[tuple[str, str, int]]:
    """The name of each GPU of this machine, what kind it is, and the bytes of memory it has."""
    for gpu in find_gpus():
        yield gpu.name, gpu.architecture, gpu.memory_bytes
    if (mac := find_metal_gpu()) is not None:
        yield mac.name, "metal", mac.memory_bytes


def _cores(num_used: int, topology: Topology) -> str:
    """How many threads compute, and what else there is."""
    parts = [f"{num_used} used", f"{topology.num_physical_cores} physical"]
    if topology.num_slow_cores:
        parts[-1] += f", {topology.num_slow_cores} of them slow"
    parts.append(f"{topology.num_allowed} of {topology.num_processors} processors allowed")
    if topology.quota is not None:
        parts.append(f"a quota of {topology.quota:.3g}")
    return ", ".join(parts)


def _features_used(host: Host, targets: Iterable[Target]) -> list[str]:
    """Those of the host's features that some target asks for."""
    asked = frozenset[str]().union(*(target.features for target in targets))
    return sorted(host.features & asked)


def _onnx_runtime() -> str | None:
    """What runs artifacts of the ONNX backend, which goes by several names, and on which devices."""
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-webgpu"):
        with suppress(PackageNotFoundError):
            installed.append(f"{name} {version(name)}")
    if not installed:
        return None
    if len(installed) > 1:
        return f"{', '.join(installed)}: packages that overwrite each other; uninstall all but one"
    import onnxruntime

    available = onnxruntime.get_available_providers()
    devices = (device for device, provider in PROVIDERS.items() if provider in available)
    return f"{installed[0]}, for {', '.join(devices)}"


def _amx(host: Host) -> str:
    """What the system says to AMX."""
    if any(feature.startswith("amx_") for feature in host.features):
        return "granted"
    return "refused" if any(w.feature.startswith("amx_") for w in host.withheld) else "absent"


def _here(target: Target, host: Host, fitting: tuple[Target, ...]) -> str:
    """Whether a target runs here, and what it lacks on a machine that is otherwise like this."""
    if target in fitting:
        return "default" if target is fitting[0] else "runs"
    if (target.system, target.machine) != (host.system, host.machine):
        return ""
    missing = sorted(target.features - host.features)
    return f"lacks {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"


def _missing_tool(target: Target) -> str:
    """What must be installed to build for a target; empty where it can be."""
    # TVM has LLVM for all of them, and ingot links for Linux itself.
    return "" if target.system != "Darwin" or has_zig() else _NEEDS_ZIG
