"""What the compiler's commands print: tables for people, one JSON document for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..targets import Host, Manifest, Target
from ..targets.manifest import AccuracyRecord, MemoryPlan
from .compiler import CompiledArtifact

__all__ = ["print_json", "print_report", "print_targets", "print_targets_json"]


def print_json(artifact: CompiledArtifact) -> None:
    """Print what was made as one JSON document."""
    manifest = artifact.manifest
    _print_document(
        {
            "artifact": str(artifact.path),
            "bytes": artifact.num_bytes,
            "seconds": artifact.seconds,
            "peak_memory_bytes": artifact.peak_memory_bytes,
            "targets": [library.target for library in manifest.libraries],
            "passes": manifest.passes,
            "quant": manifest.quant,
            "dtype": manifest.dtype,
            "memory": manifest.memory,
            "accuracy": manifest.accuracy,
            "bits_per_weight": _bits_per_weight(manifest),
            "notes": manifest.notes,
        }
    )


def print_report(artifact: CompiledArtifact) -> None:
    """Print size, time, passes and the memory plan."""
    console = Console(highlight=False)
    manifest, memory = artifact.manifest, artifact.manifest.memory
    console.print(f"[bold]{artifact.path}[/bold]", soft_wrap=True)
    console.print(
        _facts(
            {
                "size": _size(artifact.num_bytes),
                "time": f"{artifact.seconds:.1f} s",
                "peak memory": _size(artifact.peak_memory_bytes),
                "targets": ", ".join(library.target for library in manifest.libraries),
                "weights": f"{_size(memory.weight_bytes)}, quant {manifest.quant}, dtype {manifest.dtype}",
                "KV cache": _cache(memory),
                "activations": f"{_size(memory.activation_bytes_per_token)} a token of a step",
            }
        )
    )
    console.print(_passes(manifest))
    if manifest.accuracy is not None:
        console.print(_quality(manifest, manifest.accuracy))
    for note in manifest.notes:
        console.print(f"note: {note}", soft_wrap=True)


def print_targets_json(host: Host, targets: Iterable[Target], fitting: tuple[Target, ...]) -> None:
    """Print the host and every target as one JSON document; ``fitting`` are what it runs, best first."""
    _print_document(
        {
            "host": {
                "system": host.system,
                "machine": host.machine,
                "cpu": host.cpu,
                "cores": host.num_cores,
                "memory_bytes": host.memory_bytes,
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
                }
                for target in targets
            ],
        }
    )


def print_targets(host: Host, targets: Iterable[Target], fitting: tuple[Target, ...]) -> None:
    """Print the host and every target; ``fitting`` are those the host runs, best first."""
    console = Console(highlight=False)
    memory = _size(host.memory_bytes)
    console.print(f"This host: {host.cpu}, {host.system} {host.machine}, {host.num_cores} cores, {memory}")
    table = Table("target", "system", "machine", "kernels", "here", box=SIMPLE_HEAD)
    for target in targets:
        here = "default" if target in fitting[:1] else "runs" if target in fitting else ""
        table.add_row(target.name, target.system, target.machine, target.isa, here)
    console.print(table)
    console.print("All can be built from here (macOS with the extra 'cross'); 'cpu' stands for the default.")


def _cache(memory: MemoryPlan) -> str:
    if not memory.kv_bytes_per_token:
        return "none: sequences are computed whole"
    return f"{_size(memory.kv_bytes_per_token)} a token, in pages of {memory.page_size}"


def _size(count: int) -> str:
    """``count`` bytes, as people read them."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def _bits_per_weight(manifest: Manifest) -> float:
    return 8 * manifest.memory.weight_bytes / manifest.model.num_parameters


def _quality(manifest: Manifest, accuracy: AccuracyRecord) -> Table:
    """What quantizing cost, and what it is for."""
    table = Table("against the unquantized model", "", box=SIMPLE_HEAD)
    table.add_row("tokens compared", f"{accuracy.num_tokens}")
    table.add_row("KL divergence, mean", f"{accuracy.kl_mean:.4g} nats")
    table.add_row("KL divergence, largest", f"{accuracy.kl_max:.4g} nats")
    table.add_row("perplexity", f"{accuracy.perplexity:.4f}, unquantized {accuracy.reference_perplexity:.4f}")
    table.add_row("same likeliest token", f"{accuracy.top1_agreement:.2%}")
    table.add_row("weights", _size(manifest.memory.weight_bytes))
    table.add_row("bits per weight", f"{_bits_per_weight(manifest):.2f}")
    if accuracy.decode_tok_s is not None:
        table.add_row("decoding here", f"{accuracy.decode_tok_s:.1f} tokens/s")
    return table


def _passes(manifest: Manifest) -> Table:
    table = Table("pass", "changed", box=SIMPLE_HEAD)
    verified = any(record.largest_difference is not None for record in manifest.passes)
    if verified:
        table.add_column("largest difference", justify="right")
    for record in manifest.passes:
        row = [record.name, "yes" if record.modified else "no"]
        if verified:
            row.append("" if record.largest_difference is None else f"{record.largest_difference:.2g}")
        table.add_row(*row)
    return table


def _print_document(document: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
