"""What the runtime's commands share: their way to fail, and options that mean the same in each."""

import logging

import click

from ...ir.errors import IngotError
from ...targets.devices import DEVICES

__all__ = ["IngotCommand", "configure_logging", "device_option", "verbose_option"]


class IngotCommand(click.Command):
    """A command whose failures are a sentence on stderr and exit code 1, never a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except IngotError as error:
            raise click.ClickException(str(error)) from error


device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where it runs; auto: on a GPU where the artifact has a library for it, else on the CPU.",
)

verbose_option = click.option("-v", "--verbose", count=True, help="Log to stderr; -vv for debugging.")


def configure_logging(verbose: int) -> None:
    """Log to stderr: warnings, with ``-v`` what happens, with ``-vv`` all."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
