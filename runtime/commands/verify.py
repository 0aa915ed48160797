"""``ingot verify``: how far an artifact is from the model it was made of."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
import msgspec

from ...ir.errors import RequestError
from ...targets import read_manifest, write_manifest
from ...targets.manifest import AccuracyRecord
from ._options import IngotCommand, configure_logging, verbose_option

if TYPE_CHECKING:
    from ..verification.verification import Accuracy

__all__ = ["verify"]


@click.command(cls=IngotCommand)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="HF_FOLDER",
    required=True,
    help="The model it was made of, which transformers runs in float32.",
)
@click.option(
    "--text",
    "text_file",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="What to read, '-' for stdin; a few paragraphs of several kinds unless given.",
)
@click.option("--record", is_flag=True, help="Keep what was found in the artifact's manifest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@verbose_option
def verify(
    artifact: Path, reference: Path, text_file: TextIO | None, record: bool, as_json: bool, verbose: int
) -> None:
    """Compare ARTIFACT's next-token distributions with its reference's over a text."""
    configure_logging(verbose)
    # PyTorch, and only this command needs it.
    from rich.console import Console

    from ...targets.sample_text import DEFAULT_TEXT
    from ..verification.verification import verify_artifact

    text = DEFAULT_TEXT if text_file is None else _read(text_file)
    with Console(stderr=True).status("verifying") as status:
        accuracy = verify_artifact(
            artifact, reference, text, report=lambda what: status.update(f"verifying: {what}")
        )
    if record:
        found = AccuracyRecord(**asdict(accuracy))
        write_manifest(artifact, msgspec.structs.replace(read_manifest(artifact), accuracy=found))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(accuracy), indent=2))
    else:
        _print_table(accuracy)


def _read(file: TextIO) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{file.name} is not UTF-8 text: {error.reason} at byte {error.start}", "text"
        ) from None


def _print_table(accuracy: "Accuracy") -> None:
    rows = (
        ("tokens compared", f"{accuracy.num_tokens}"),
        ("KL divergence, mean", f"{accuracy.kl_mean:.3g} nats"),
        ("KL divergence, largest", f"{accuracy.kl_max:.3g} nats"),
        ("largest difference of log-probabilities", f"{accuracy.max_abs_diff:.3g}"),
        ("same likeliest token", f"{accuracy.top1_agreement:.2%}"),
        ("perplexity", f"{accuracy.perplexity:.4f}"),
        ("perplexity of the reference", f"{accuracy.reference_perplexity:.4f}"),
    )
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{width}}  {value}")
