"""What the compiler's commands print: tables for people, one JSON document for scripts."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..targets import Manifest
from ..targets.manifest import AccuracyRecord, MemoryPlan
from ..targets.sizes import format_size
from .compiler import CompiledArtifact

__all__ = ["print_json", "print_report"]


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
    console = Console(highlight=False, markup=False)
    manifest, memory = artifact.manifest, artifact.manifest.memory
    weights = format_size(memory.weight_bytes)
    console.print(str(artifact.path), style="bold", soft_wrap=True)
    console.print(
        _facts(
            {
                "size": format_size(artifact.num_bytes),
                "time": f"{artifact.seconds:.1f} s",
                "peak memory": format_size(artifact.peak_memory_bytes),
                "targets": ", ".join(library.target for library in manifest.libraries),
                "weights": f"{weights}, quant {manifest.quant}, dtype {manifest.dtype}",
                "KV cache": _cache(memory),
                "activations": f"{format_size(memory.activation_bytes_per_token)} a token of a step",
            }
        )
    )
    console.print(_passes(manifest))
    if manifest.accuracy is not None:
        console.print(_quality(manifest, manifest.accuracy))
    for note in manifest.notes:
        console.print(f"note: {note}", soft_wrap=True)


def _cache(memory: MemoryPlan) -> str:
    if not memory.kv_bytes_per_token:
        return "none: sequences are computed whole"
    return f"{format_size(memory.kv_bytes_per_token)} a token, in pages of {memory.page_size}"


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
    table.add_row("weights", format_size(manifest.memory.weight_bytes))
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
