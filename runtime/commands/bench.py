"""``ingot bench``: how fast a model runs here, and how near to what the machine can do."""

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from ._options import IngotCommand, configure_logging, device_option, verbose_option

if TYPE_CHECKING:
    from ..bench import BenchRecord

__all__ = ["bench"]


def _parse_concurrency(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"'{text}' is not a list of counts such as 1,8,16", context, parameter)
    return tuple(dict.fromkeys(int(part) for part in parts))


def _parse_peers(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    from ..bench.peers.known import PEERS

    names = [peer.name for peer in PEERS]
    pythons = {}
    for text in texts:
        name, _, python = text.partition("=")
        if name not in names or not python:
            raise click.BadParameter(
                f"'{text}' is not NAME=PYTHON with a name among {', '.join(names)}", context, parameter
            )
        pythons[name] = python
    return pythons


@click.command(cls=IngotCommand)
@click.argument("model", metavar="MODEL_OR_ARTIFACT")
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Length of each prompt; 512 unless given, or what the model's context leaves.",
)
@click.option(
    "--output-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    default=64,
    show_default=True,
    help="Length of each answer.",
)
@click.option(
    "--concurrency",
    metavar="N,...",
    default="1,8,16",
    show_default=True,
    callback=_parse_concurrency,
    help="How many requests at once, one run for each.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often each run is repeated; rates are medians.",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Also tell where the time of a step goes, and how near each kind of work is to its limit.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Also measure the other systems that are installed, before and after which this model is measured.",
)
@click.option(
    "--peer-model",
    "peer_models",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="A model for the others: a .gguf file, a Hugging Face folder, one of ONNX Runtime GenAI. "
    "MODEL is one too, if they can read it.",
)
@click.option(
    "--peer",
    "pythons",
    multiple=True,
    callback=_parse_peers,
    metavar="NAME=PYTHON",
    help="The Python that has another system installed; others are looked for in this one.",
)
@click.option(
    "--json",
    "json_file",
    type=click.File("w", encoding="utf-8", lazy=False),
    metavar="FILE",
    help="Write one JSON document, '-' to stdout; the table goes to stderr then.",
)
@device_option
@verbose_option
def bench(
    model: str,
    prompt_tokens: int | None,
    output_tokens: int,
    concurrency: tuple[int, ...],
    rounds: int,
    profile: bool,
    compare: bool,
    peer_models: tuple[Path, ...],
    pythons: dict[str, str],
    json_file: TextIO | None,
    device: str,
    verbose: int,
) -> None:
    """Measure speed, delays, memory, and the fraction of this machine's limits that a model reaches.

    Prompts are random tokens and answers greedy, all as long as asked for. A MODEL that is not an artifact is
    compiled once into the user's cache.
    """
    configure_logging(verbose)
    # Loading takes the time there is; nothing of it is imported for --help.
    from rich.console import Console

    from ..bench import BenchOptions, Comparison, run_benchmark
    from ..bench.report import print_report
    from ..engine.base_engine import BaseEngine, artifact_path

    path = artifact_path(model, BaseEngine.compile_model)
    comparison = None
    if compare or peer_models or pythons:
        comparison = Comparison((*([Path(model)] if Path(model) != path else []), *peer_models), pythons)
    options = BenchOptions(prompt_tokens, output_tokens, concurrency, rounds, profile, comparison, device)
    with Console(stderr=True).status("measuring") as status:
        record = run_benchmark(path, options, report=lambda what: status.update(f"measuring: {what}"))
    print_report(record, to_stderr=json_file is not None)
    if json_file is not None:
        json_file.write(_document(record))


def _document(record: "BenchRecord") -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n"
