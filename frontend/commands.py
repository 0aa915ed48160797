"""``ingot models``."""

from __future__ import annotations

import click

__all__ = ["models_command"]


@click.command("models")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def models_command(name: str | None, as_json: bool) -> None:
    """List the models there are definitions of and those that are traced, and what was measured of each.

    With NAME, such as 'gemma', only those that have it in their model type or architecture, and each setting
    that was tried.
    """
    from .catalog import read_checked
    from .catalog.listing import list_models
    from .catalog.report import print_details, print_listing, print_listing_json

    listing = list_models(read_checked(), name)
    if as_json:
        print_listing_json(listing)
    elif name is None:
        print_listing(listing)
    else:
        print_details(listing)
