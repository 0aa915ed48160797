"""The command line: ``ingot``, or ``python -m ingot``.

Each room offers its commands in modules of its own; here they are only listed. A command's module is imported
when the command is called, so that ``ingot run`` on an artifact never imports the compiler.
"""

import copy
import functools
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from .targets.manifest import AccuracyRecord

__all__ = ["main"]

P = ParamSpec("P")
R = TypeVar("R")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A command: where it is defined, its line of help, whether it compiles what is no artifact, and whether
    it has what it compiled compared with its model.
    """

    module: str
    attribute: str
    help: str
    takes_model: bool = False
    judges: bool = False


_COMMANDS = {
    "compile": _Entry(
        ".codegen.commands", "compile_command", "Compile a model into an artifact.", judges=True
    ),
    "run": _Entry(
        ".runtime.commands.run", "run", "Ask a model, or talk with it in the terminal.", takes_model=True
    ),
    "serve": _Entry(
        ".runtime.commands.serve", "serve", "Serve models over HTTP in OpenAI's format.", takes_model=True
    ),
    "bench": _Entry(
        ".runtime.commands.bench", "bench", "Measure how fast a model runs here.", takes_model=True
    ),
    "quantize": _Entry(
        ".codegen.commands", "quantize_command", "Compile with quantized weights; show the cost.", judges=True
    ),
    "verify": _Entry(
        ".runtime.commands.verify", "verify", "Compare an artifact with the model it was made of."
    ),
    "inspect": _Entry(".runtime.commands.inspect", "inspect", "Show what is in an artifact."),
    "models": _Entry(
        ".frontend.commands", "models_command", "List the models that are known, and what was checked."
    ),
    "targets": _Entry(
        ".codegen.commands", "targets_command", "Show what this host has, and what can be built for."
    ),
}


def _configure_logging(context: click.Context, parameter: click.Parameter, verbose: int) -> int:
    """Log to stderr: warnings, with ``-v`` what happens, with ``-vv`` all."""
    if verbose:
        level = logging.INFO if verbose == 1 else logging.DEBUG
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    return verbose


def _verbose_option(*, expose_value: bool = False) -> click.Option:
    return click.Option(
        ["-v", "--verbose"],
        count=True,
        is_eager=True,
        expose_value=expose_value,
        callback=_configure_logging,
        help="Log to stderr; -vv for debugging.",
    )


class _Commands(click.Group):
    """The commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        defined: click.Command = getattr(import_module(entry.module, __package__), entry.attribute)
        command = copy.copy(defined)
        if all(parameter.name != "verbose" for parameter in command.params):
            command.params = [*command.params, _verbose_option()]
        if entry.takes_model and command.callback is not None:
            command.callback = _with_compiler(command.callback)
        if entry.judges and command.callback is not None:
            command.callback = functools.partial(command.callback, judge=_judge)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in _COMMANDS.items()])


def _with_compiler(callback: Callable[P, R]) -> Callable[P, R]:
    """Let the engines of a command compile what is no artifact."""

    @functools.wraps(callback)
    def connected(*args: P.args, **kwargs: P.kwargs) -> R:
        # The root connects the compiler to the engines it gives out. Only now: --help needs none.
        from . import Engine  # noqa: F401

        return callback(*args, **kwargs)

    return connected


def _judge(artifact: Path, recorded: Path) -> "AccuracyRecord":
    """Compare what was compiled with its model: the compiler knows no runtime."""
    from .runtime.verification.judging import judge_apart

    return judge_apart(artifact, recorded)


@click.group(cls=_Commands, params=[_verbose_option(expose_value=True)])
@click.version_option(package_name="ingot", message="%(package)s %(version)s")
@click.pass_context
def _ingot(context: click.Context, verbose: int) -> None:
    """Compile generative models into artifacts, and run them.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Progress and logs go to stderr.
    """
    context.default_map = {name: {"verbose": verbose} for name in _COMMANDS}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 failed with a sentence on stderr, 2 wrong usage, 130 interrupted."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status = _ingot.main(arguments, prog_name="ingot", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        error.show()
        _LOG.debug("This is where it came from.", exc_info=error.__cause__ or error)
        return error.exit_code
    except Exception as error:
        click.echo(f"Error: {_sentence(error)}", err=True)
        _LOG.debug("This is where it came from.", exc_info=error)
        return 1
    return status if isinstance(status, int) else 0


def _sentence(error: Exception) -> str:
    """What to tell of an error; where it came from is for ``-vv``."""
    from .ir.errors import IngotError  # with numpy behind it, which --help does without

    match error:
        case IngotError() | OSError():
            return str(error)
        case MemoryError():
            return "there is not enough memory"
        case _:
            return f"{type(error).__name__}: {error} (a fault of ingot's; -vv shows where)"


if __name__ == "__main__":
    main()
