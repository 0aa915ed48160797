"""``ingot compile`` and ``ingot targets``."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click

from ..frontend import FRONTENDS
from ..ir import ScalarType
from ..ir.errors import CompileError
from ..passes import CacheType
from ..targets import CPUS, detect_host, parse_target, supported_targets
from .quantize_command_options import QuantizeArguments, quantize_options

__all__ = ["compile_command", "targets_command"]

_DTYPES = ["auto", *(kind.value for kind in ScalarType if kind.is_float)]
_PAGE_SIZES = ["16", "32", "64", "128", "256", "512", "1024"]


def _check_targets(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse a target that does not exist as wrong usage, before a model is read."""
    for text in values:
        if text != "cpu":  # whether this host has one is no matter of usage
            try:
                parse_target(text)
            except CompileError as error:
                raise click.BadParameter(str(error), context, parameter) from None
    return values


@click.command("compile")
@click.argument("model")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="OUT.ingot", help="The folder to make."
)
@click.option(
    "--target",
    "targets",
    metavar="T",
    multiple=True,
    default=("cpu",),
    show_default=True,
    callback=_check_targets,
    help="What to build for, 'ingot targets' lists them; several give one artifact.",
)
@quantize_options
@click.option(
    "--dtype",
    type=click.Choice(_DTYPES),
    default="auto",
    show_default=True,
    help="Of weights that are not quantized; auto keeps the checkpoint's.",
)
@click.option("--backend", type=click.Choice(["tvm", "onnx"]), default="tvm", show_default=True)
@click.option(
    "--frontend",
    type=click.Choice(FRONTENDS),
    default="auto",
    show_default=True,
    help="native: families defined here; export: trace what transformers builds; auto: the first there is.",
)
@click.option(
    "--max-seq-len",
    type=click.IntRange(min=1),
    metavar="N",
    help="Longest sequence in tokens; the model's own unless given.",
)
@click.option(
    "--page-size",
    type=click.Choice(_PAGE_SIZES),
    help="Tokens in a page of the KV cache; 16 unless given, more for layers whose state is large.",
)
@click.option(
    "--kv-cache",
    type=click.Choice(["auto", *(kind.value for kind in CacheType)]),
    default="auto",
    show_default=True,
    help="What keys and values are kept as; auto: float32 beside weights of float32, else float16.",
)
@click.option("--verify", is_flag=True, help="Measure on the reference interpreter what each pass changes.")
@click.option(
    "--dump-ir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the module after each pass.",
)
@click.option("--force", is_flag=True, help="Replace the artifact that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def compile_command(
    model: str,
    output: Path | None,
    targets: tuple[str, ...],
    dtype: str,
    backend: str,
    frontend: str,
    max_seq_len: int | None,
    page_size: str | None,
    kv_cache: str,
    verify: bool,
    dump_ir: Path | None,
    force: bool,
    as_json: bool,
    **quantizing: Unpack[QuantizeArguments],
) -> None:
    """Compile MODEL into an artifact.

    MODEL is a Hugging Face folder, a GGUF file, or a hub id: org/name[@revision], with :FILE.gguf for one
    file.
    """
    # Seconds of imports, and only this command needs them.
    from .compiler import compile_model
    from .model_source import find_model
    from .progress_bar import ProgressBar
    from .report import print_json, print_report

    found = find_model(model)
    with ProgressBar() as progress:
        artifact = compile_model(
            found.source,
            output,
            targets=targets,
            dtype=dtype,
            backend=backend,
            frontend=frontend,
            max_seq_len=max_seq_len,
            page_size=None if page_size is None else int(page_size),
            kv_cache=kv_cache,
            verify=verify,
            dump_ir=dump_ir,
            force=force,
            progress=progress,
            **quantizing,
        )
    if as_json:
        print_json(artifact)
    else:
        print_report(artifact)


@click.command("targets")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
def targets_command(as_json: bool) -> None:
    """Show what this host has, and what can be built for."""
    from .report import print_targets, print_targets_json

    host = detect_host()
    best_first = supported_targets(host)
    if as_json:
        print_targets_json(host, tuple(CPUS.values()), best_first)
    else:
        print_targets(host, tuple(CPUS.values()), best_first)
