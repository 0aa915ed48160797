"""``ingot inspect``: what is in an artifact."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from ...ir.errors import ArtifactError
from ...targets import Manifest, read_manifest
from ...targets.sizes import format_size

__all__ = ["inspect"]

_RUNS_ON = {
    "cuda": "NVIDIA GPUs of this architecture, and later ones",
    "metal": "Macs with Apple silicon",
    "onnx": "wherever ONNX Runtime is",
}
"""Of libraries that are for no one system and processor."""


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--ir", "stage", metavar="STAGE", help="Print the module as it was after this stage, as text.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON document.")
def inspect(artifact: Path, stage: str | None, as_json: bool) -> None:
    """Show what ARTIFACT was made of and how, what it needs to run, and what it holds."""
    if stage is not None and as_json:
        raise click.UsageError("--ir prints a module's text and --json the manifest; choose one")
    manifest = read_manifest(artifact)
    if stage is not None:
        click.echo(_read_stage(artifact, stage), nl=False)
    elif as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    else:
        _print_report(artifact, manifest)


def _read_stage(artifact: Path, stage: str) -> str:
    stages = {path.stem: path for path in sorted((artifact / "ir").glob("*.ir"))}
    if stage not in stages:
        raise ArtifactError(f"{artifact} has no stage '{stage}'; it has {', '.join(stages) or 'none'}")
    return stages[stage].read_text(encoding="utf-8")


def _print_report(artifact: Path, manifest: Manifest) -> None:
    from rich.box import SIMPLE_HEAD  # tables only where one is printed
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(str(artifact), style="bold", soft_wrap=True)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(manifest):
        facts.add_row(name, value)
    console.print(facts)

    passes = Table("pass", "changed", "largest difference", box=SIMPLE_HEAD)
    for record in manifest.passes:
        difference = record.largest_difference
        passes.add_row(
            record.name,
            "yes" if record.modified else "no",
            "not measured" if difference is None else f"{difference:.2g}",
        )
    console.print(passes)

    files = Table("file", "size", "BLAKE3", box=SIMPLE_HEAD)
    for file in manifest.files:
        files.add_row(file.path, format_size(file.num_bytes), file.blake3[:16])
    console.print(files)
    for note in manifest.notes:
        console.print(f"note: {note}", soft_wrap=True)


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What there is to say before the tables, as names and values."""
    model, memory = manifest.model, manifest.memory
    yield (
        "model",
        f"{model.name}: {model.architecture}, {model.num_layers} layers, vocabulary {model.vocab_size}",
    )
    yield "parameters", f"{model.num_parameters:,}, quant {manifest.quant}, dtype {manifest.dtype}"
    kinds = Counter(f"{parameter.layout}" for parameter in manifest.parameters)
    yield "layouts", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    matrices = Counter(p.type.partition("[")[0] for p in manifest.parameters if "," in p.type)
    yield "matrices", ", ".join(f"{count} {element}" for element, count in matrices.most_common())
    yield "longest", f"{model.max_seq_len} tokens"
    if model.vectors is not None:
        what = "scores of pairs of texts" if model.task == "rerank" else "embeddings"
        prompts = ", ".join(model.vectors.prompts) or "none"
        yield "gives", f"{what} of {model.vectors.width} numbers; its prompts: {prompts}"
    for library in manifest.libraries:
        where = _RUNS_ON.get(library.backend, f"{library.system} {library.machine}")
        yield "target", f"{library.target} ({where})"
    yield "weights", format_size(memory.weight_bytes)
    if memory.kv_bytes_per_token:
        yield (
            "KV cache",
            f"{format_size(memory.kv_bytes_per_token)} a token, in pages of {memory.page_size} tokens",
        )
    yield "activations", f"{format_size(memory.activation_bytes_per_token)} a token of a step"
    accuracy = manifest.accuracy
    if accuracy is not None:
        yield (
            "accuracy",
            f"over {accuracy.num_tokens} tokens: KL {accuracy.kl_mean:.2g} (largest {accuracy.kl_max:.2g}), "
            f"perplexity {accuracy.perplexity:.3f} ({accuracy.reference_perplexity:.3f}), "
            f"same likeliest token {accuracy.top1_agreement:.2%}",
        )
    toolchain = ", ".join(f"{name} {version}" for name, version in sorted(manifest.toolchain.items()))
    yield "made by", f"ingot {manifest.ingot}, {toolchain}"
    for source in manifest.sources:
        yield "from", f"{source.name}, {format_size(source.num_bytes)}, SHA-256 {source.sha256[:16]}"
