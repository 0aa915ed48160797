"""What ``ingot models`` prints: tables for people, one JSON document for scripts."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from .checked import TOLERANCE, CheckedArchitecture
from .listing import FamilyLine, Listing

__all__ = ["print_details", "print_listing", "print_listing_json"]


def print_listing(listing: Listing) -> None:
    """Print a line for each family, and the names of what is traced."""
    console = Console(highlight=False)
    table = Table("model type", "layers", box=SIMPLE_HEAD, pad_edge=False)
    for frontend in ("native", "export"):
        table.add_column(frontend, justify="right", no_wrap=True)
    for line in listing.families:
        checked = line.checked
        native, export = _in_short(checked.native), _in_short(checked.export)
        table.add_row(line.model_type, ", ".join(checked.layers), native, export)
    console.print("[bold]Defined here[/bold] (--frontend native)")
    console.print(table)
    console.print(
        f"Largest difference from transformers {listing.transformers}, compiled in float32, and in how many "
        "settings: of log-probabilities, or of the elements of vectors, relative to the largest."
    )
    console.print()
    matching = [name for name, found in listing.traced.items() if found.matches]
    others = [name for name, found in listing.traced.items() if not found.matches]
    console.print(
        f"[bold]Traced from transformers[/bold] (--frontend export): {len(matching)} further model types "
        f"compile and are within {TOLERANCE:g}"
    )
    console.print(Padding(", ".join(matching) or "none", (1, 0, 1, 2)))
    console.print(f"{len(others)} were tried and do not, or not all the way; 'ingot models NAME' says why")
    console.print(Padding(", ".join(others) or "none", (1, 0, 0, 2)))


def print_details(listing: Listing) -> None:
    """Print each setting that was tried, and why what is not compiled is not."""
    console = Console(highlight=False)
    for line in listing.families:
        console.print(f"[bold]{line.model_type}[/bold]: {', '.join(line.architectures)}; defined here")
        if line.checked.layers:
            console.print(f"layers: {', '.join(line.checked.layers)}")
        console.print(_settings(line))
    if not listing.traced:
        return
    table = Table("traced from transformers", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("interpreted", "compiled"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("what stands in the way", overflow="fold")
    for model_type, found in listing.traced.items():
        table.add_row(model_type, _number(found.interpreted), _number(found.compiled), escape(found.why))
    console.print(table)


def print_listing_json(listing: Listing) -> None:
    """Print all of it as one JSON document."""
    document = {
        "transformers": listing.transformers,
        "tolerance": TOLERANCE,
        "families": [
            {
                "model_type": line.model_type,
                "architectures": line.architectures,
                "layers": line.checked.layers,
                "native": _document(line.checked.native),
                "export": _document(line.checked.export),
            }
            for line in listing.families
        ],
        "traced": [
            {"model_type": model_type, "matches": found.matches, **_architecture(found)}
            for model_type, found in listing.traced.items()
        ],
    }
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))


def _settings(line: FamilyLine) -> Table:
    table = Table("setting", box=SIMPLE_HEAD, pad_edge=False)
    for frontend in ("native", "export"):
        table.add_column(frontend, justify="right")
    native, export = line.checked.native, line.checked.export
    for setting in native | export:
        table.add_row(setting, _number(native.get(setting)), _number(export.get(setting)))
    return table


def _in_short(settings: Mapping[str, float | str]) -> str:
    """The largest difference of the settings that have one, and of how many."""
    numbers = [found for found in settings.values() if isinstance(found, float)]
    if not numbers:
        return "refused" if settings else ""
    return f"{max(numbers):.1e} ({len(numbers)})"


def _number(found: float | str | None) -> str:
    return "" if found is None else found if isinstance(found, str) else f"{found:.1e}"


def _document(settings: Mapping[str, float | str]) -> dict[str, object]:
    numbers = [found for found in settings.values() if isinstance(found, float)]
    return {"largest_difference": max(numbers, default=None), "settings": settings}


def _architecture(found: CheckedArchitecture) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(found)
    return fields
