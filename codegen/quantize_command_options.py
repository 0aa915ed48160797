"""The options of the command line that say how weights are quantized."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import click

from ..ir.errors import CompileError
from ..passes import SCHEMES, find_assignment
from ..passes.calibration import METHODS
from .quantize_options import AUTO, CALIBRATION_TOKENS

__all__ = ["QuantizeArguments", "quantize_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


class QuantizeArguments(TypedDict):
    """What :func:`quantize_options` adds to a command's arguments."""

    quant: str
    topology: Path | None
    calibrate: Path | None
    method: str | None
    calibration_tokens: int
    work_dir: Path | None
    size: str | None
    kl: float | None
    write_topology: Path | None


def _check_quant(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a scheme or format that does not exist as wrong usage."""
    if value == AUTO:
        return value
    try:
        find_assignment(value)
    except CompileError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return value


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option(
        "--topology",
        type=_FILE,
        metavar="FILE.yaml",
        help="Formats by layers and names of weights; --quant for the others.",
    ),
    click.option(
        "--calibrate",
        type=_FILE,
        metavar="FILE",
        help="A text to quantize the weights for, layer by layer.",
    ),
    click.option(
        "--method",
        type=click.Choice(list(METHODS)),
        help="How weights are quantized: "
        + "; ".join(f"{method.name}, {method.summary}" for method in METHODS.values())
        + ". gptq unless given where there is a text, rtn where there is none.",
    ),
    click.option(
        "--calibration-tokens",
        type=click.IntRange(min=1),
        default=CALIBRATION_TOKENS,
        show_default=True,
        metavar="N",
        help="How much of the text is read at most.",
    ),
    click.option(
        "--work-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Keeps what a calibration found: one that was interrupted goes on there.",
    ),
    click.option("--size", metavar="SIZE", help="Of --quant auto: what all weights take at most, as 2.5GiB."),
    click.option(
        "--kl",
        type=click.FloatRange(min=0, min_open=True),
        metavar="NATS",
        help="Of --quant auto: the divergence from the unquantized model that is borne, as 0.02.",
    ),
    click.option(
        "--write-topology",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.yaml",
        help="Of --quant auto: write what was chosen, for --topology.",
    ),
)


def quantize_options(default: str) -> Callable[[Command], Command]:
    """Give a command the options about quantizing, as :class:`QuantizeArguments`; ``default`` is its
    ``--quant``.
    """
    quant = click.option(
        "--quant",
        metavar="Q",
        default=default,
        show_default=True,
        callback=_check_quant,
        help=f"What weights are kept in: none, {', '.join(SCHEMES)}, one format for all, or {AUTO}, "
        "chosen for --size or --kl.",
    )

    def add(command: Command) -> Command:
        for option in reversed((quant, *_OPTIONS)):
            command = option(command)
        return command

    return add
