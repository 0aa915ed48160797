"""``ingot compile``, ``ingot quantize`` and ``ingot targets``."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click
from click.core import ParameterSource

from ..frontend import FRONTENDS
from ..ir import ScalarType
from ..ir.errors import CompileError
from ..passes import CacheType
from ..targets import CPUS, detect_host, parse_targets, supported_targets
from .quantize_command_options import QuantizeArguments, quantize_options
from .trial import Judge, Trial

__all__ = ["compile_command", "quantize_command", "targets_command"]

_DTYPES = ["auto", *(kind.value for kind in ScalarType if kind.is_float)]
_PAGE_SIZES = ["16", "32", "64", "128", "256", "512", "1024"]


def _check_targets(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse a target that does not exist as wrong usage, before a model is read."""
    for text in values:
        if text not in ("cpu", "cuda"):  # whether this host has one is no matter of usage
            try:
                parse_targets(text)
            except CompileError as error:
                raise click.BadParameter(str(error), context, parameter) from None
    return values


class _Options(QuantizeArguments, total=False):
    """What is handed on to the compiler."""

    targets: tuple[str, ...]
    dtype: str
    backend: str
    frontend: str
    max_seq_len: int | None
    page_size: int | None
    kv_cache: str
    verify: bool
    dump_ir: Path | None
    tune: float | None
    force: bool


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
@click.option(
    "--add-target",
    "added",
    metavar="T",
    multiple=True,
    callback=_check_targets,
    help="MODEL is an artifact: build it for T as well, and keep its weights.",
)
@quantize_options("none")
@click.option(
    "--dtype",
    type=click.Choice(_DTYPES),
    default="auto",
    show_default=True,
    help="Of weights that are not quantized; auto keeps the checkpoint's. With bfloat16, the activations "
    "that meet them are rounded to it as well.",
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
@click.option(
    "--eval-text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare the artifact with the unquantized model over this text, and time it.",
)
@click.option(
    "--tune",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time how products are best cut, here, for so long; what an artifact that is replaced kept stays.",
)
@click.option("--force", is_flag=True, help="Replace the artifact that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def compile_command(
    model: str,
    output: Path | None,
    targets: tuple[str, ...],
    added: tuple[str, ...],
    dtype: str,
    backend: str,
    frontend: str,
    max_seq_len: int | None,
    page_size: str | None,
    kv_cache: str,
    verify: bool,
    dump_ir: Path | None,
    eval_text: Path | None,
    tune: float | None,
    force: bool,
    as_json: bool,
    judge: Judge | None = None,
    **quantizing: Unpack[QuantizeArguments],
) -> None:
    """Compile MODEL into an artifact.

    MODEL is a Hugging Face folder, a GGUF file, or a hub id: org/name[@revision], with :FILE.gguf for one
    file.
    """
    if added:
        _add(model, added, as_json=as_json)
        return
    _make(
        model,
        output,
        None if eval_text is None or judge is None else Trial(eval_text, judge),
        as_json=as_json,
        targets=targets,
        dtype=dtype,
        backend=backend,
        frontend=frontend,
        max_seq_len=max_seq_len,
        page_size=None if page_size is None else int(page_size),
        kv_cache=kv_cache,
        verify=verify,
        dump_ir=dump_ir,
        tune=tune,
        force=force,
        **quantizing,
    )


def _add(artifact: str, targets: tuple[str, ...], *, as_json: bool) -> None:
    """Build an artifact for further targets, and report."""
    context = click.get_current_context()
    given = {
        name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if others := sorted(given - {"model", "added", "as_json"}):
        raise click.UsageError(f"--add-target keeps an artifact as it is; leave away {', '.join(others)}")
    from .adding import add_targets
    from .progress_bar import ProgressBar
    from .report import print_json, print_report

    with ProgressBar() as progress:
        made = add_targets(artifact, targets, progress=progress)
    if as_json:
        print_json(made)
    else:
        print_report(made)


@click.command("quantize")
@click.argument("model")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="OUT.ingot", help="The folder to make."
)
@quantize_options("int4")
@click.option(
    "--eval-text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What to compare on; a few paragraphs of several kinds unless given.",
)
@click.option("--force", is_flag=True, help="Replace the artifact that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def quantize_command(
    model: str,
    output: Path | None,
    eval_text: Path | None,
    force: bool,
    as_json: bool,
    judge: Judge | None = None,
    **quantizing: Unpack[QuantizeArguments],
) -> None:
    """Compile MODEL for this host with its weights quantized, and show what that costs.

    MODEL is what 'ingot compile' takes. With --topology, weights that it does not name are quantized only
    where --quant is given.
    """
    is_given = click.get_current_context().get_parameter_source("quant") is ParameterSource.COMMANDLINE
    if quantizing["topology"] is not None and not is_given:
        quantizing["quant"] = "none"
    trial = None if judge is None else Trial(eval_text, judge)
    _make(model, output, trial, as_json=as_json, force=force, **quantizing)


def _make(
    model: str, output: Path | None, trial: Trial | None, *, as_json: bool, **options: Unpack[_Options]
) -> None:
    """Compile, compare if there is a trial, and report."""
    # Seconds of imports, and only this needs them.
    from .compiler import compile_model
    from .model_source import find_model
    from .progress_bar import ProgressBar
    from .quality import measure_quality
    from .report import print_json, print_report

    found = find_model(model)
    with ProgressBar() as progress:
        artifact = compile_model(found.source, output, progress=progress, **options)
        if trial is not None:
            frontend = options.get("frontend", "auto")
            artifact = measure_quality(found.source, artifact, trial, frontend=frontend, progress=progress)
    if as_json:
        print_json(artifact)
    else:
        print_report(artifact)


@click.command("targets")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
def targets_command(as_json: bool) -> None:
    """Show what this host has, and what can be built for."""
    from .host_report import print_targets, print_targets_json

    host = detect_host()
    best_first = supported_targets(host)
    if as_json:
        print_targets_json(host, tuple(CPUS.values()), best_first)
    else:
        print_targets(host, tuple(CPUS.values()), best_first)
