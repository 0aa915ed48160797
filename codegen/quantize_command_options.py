"""The options of the command line that say how weights are quantized."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import click

from ..ir.errors import CompileError
from ..passes import SCHEMES, find_assignment
from ..passes.calibration import METHODS
from .quantize_options import CALIBRATION_TOKENS

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


def _check_quant(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a scheme or format that does not exist as wrong usage."""
    try:
        find_assignment(value)
    except CompileError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return value


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option(
        "--quant",
        metavar="Q",
        default="none",
        show_default=True,
        callback=_check_quant,
        help=f"What weights are kept in: none, {', '.join(SCHEMES)}, or one format for all.",
    ),
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
)


def quantize_options(command: Command) -> Command:
    """Give a command the options about quantizing, as :class:`QuantizeArguments`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
