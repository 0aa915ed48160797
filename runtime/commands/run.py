"""``ingot run``: one answer, or a conversation in the terminal."""

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from ...ir.errors import RequestError
from ._options import IngotCommand, configure_logging, device_option, verbose_option

if TYPE_CHECKING:
    from ._conversation import Conversation

__all__ = ["run"]

_HELP = "/clear forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer."


@click.command(cls=IngotCommand)
@click.argument("model", metavar="MODEL_OR_ARTIFACT")
@click.argument("prompt", required=False)
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens of an answer.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0.0),
    default=0.7,
    show_default=True,
    help="0 always takes the likeliest token.",
)
@click.option("--seed", type=int, help="The same seed gives the same answer.")
@click.option("--system", metavar="TEXT", help="Tell the model how to behave.")
@click.option("--raw", is_flag=True, help="Continue PROMPT as it is, without the model's chat template.")
@device_option
@verbose_option
def run(
    model: str,
    prompt: str | None,
    max_tokens: int | None,
    temperature: float,
    seed: int | None,
    system: str | None,
    raw: bool,
    device: str,
    verbose: int,
) -> None:
    """Answer PROMPT, or talk in the terminal where none is given; PROMPT "-" is read from stdin.

    A MODEL that is not an artifact is compiled once into the user's cache.
    """
    if raw and system is not None:
        raise click.UsageError("--system has no place in a --raw prompt; begin PROMPT with it")
    configure_logging(verbose)
    if prompt == "-":
        prompt = sys.stdin.read()
    # Loading takes the time there is; nothing of it is imported for --help.
    from ..engine.engine import Engine
    from ..sampling.sampling_params import SamplingParams
    from ._conversation import Conversation

    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    with Engine(model, max_num_seqs=1, device=device) as engine:
        if engine.info.task != "generate":
            raise engine.info.refuse("generate")
        if not raw and not engine.tokenizer.has_chat_template:
            raw = True
            click.echo(
                f"{engine.info.name} has no chat template; prompts are continued as they are", err=True
            )
        conversation = Conversation(engine, params, system=system, raw=raw, timings=verbose > 0)
        if prompt is not None:
            conversation.answer(prompt)
        else:
            _talk(conversation)


def _talk(conversation: "Conversation") -> None:
    """Answer what is typed, line by line, until the end of input or ``/exit``."""
    typed = sys.stdin.isatty()
    if typed:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (gives input() its history and editing)
        click.echo(_HELP, err=True)
    while True:
        try:
            line = input(">>> " if typed else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            if not typed:
                raise
            click.echo(err=True)
            continue
        match line.strip():
            case "":
                pass
            case "/exit":
                return
            case "/clear":
                conversation.clear()
            case "/help":
                click.echo(_HELP, err=True)
            case _:
                _answer(conversation, line)


def _answer(conversation: "Conversation", line: str) -> None:
    try:
        conversation.answer(line)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    except RequestError as error:
        # Most likely a conversation that has grown too long; it is not lost by that.
        click.echo(f"Error: {error}", err=True)
