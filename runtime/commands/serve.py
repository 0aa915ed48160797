"""``ingot serve``: the HTTP API."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...targets.devices import DEVICES
from ...targets.sizes import parse_size
from ._groups import GroupedCommand, group
from ._options import configure_logging, verbose_option

if TYPE_CHECKING:
    from ..server import KeySource, ModelLoader, ServedModels, ServerOptions

__all__ = ["serve"]

_address = group("Address")
_models = group("Models")
_access = group("Who may ask")
_traffic = group("How much")
_operation = group("Running it")


@click.command(cls=GroupedCommand)
@click.argument("models", metavar="MODEL_OR_ARTIFACT...", nargs=-1, required=True)
@_address("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen at.")
@_address(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@_models(
    "--served-model-name",
    "names",
    metavar="NAME",
    multiple=True,
    help="What clients call the model; for several models, one for each in their order.",
)
@_models(
    "--kv-memory",
    metavar="SIZE",
    default="1GiB",
    show_default=True,
    help="Memory for keys and values, for each model; auto: of a GPU's most of what all else leaves.",
)
@_models(
    "--max-seq-len",
    metavar="N",
    type=click.IntRange(min=1),
    help="Longest prompt and answer together, in tokens; as many as model and memory allow unless given.",
)
@_models(
    "--max-num-seqs",
    metavar="N",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Most sequences that run at once.",
)
@_models(
    "--max-num-batched-tokens",
    metavar="N",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Most tokens computed in a step.",
)
@_models(
    "--prefix-caching/--no-prefix-caching",
    default=True,
    help="Keep keys and values for prompts that begin alike; kept unless told otherwise.",
)
@_models(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where they run; auto: on a GPU where an artifact has a library for it, else on the CPU.",
)
@_models(
    "--tool-dialect",
    metavar="NAME",
    help="How the models write calls of tools; as their chat templates teach unless given.",
)
@_models(
    "--reasoning-marks",
    metavar="NAME",
    help="How they mark reasoning, none for not at all; as their chat templates show unless given.",
)
@_access(
    "--api-key",
    "api_keys",
    metavar="KEY",
    multiple=True,
    help="Ask clients for this key; several may be given. INGOT_API_KEY adds to them.",
)
@_access(
    "--api-key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Ask for the keys of a file, one a line, KEY or NAME: KEY. SIGHUP reads it again.",
)
@_access(
    "--admin-key",
    "admin_keys",
    metavar="KEY",
    multiple=True,
    envvar="INGOT_ADMIN_KEY",
    show_envvar=True,
    help="Answer below /admin to who has this key: models are loaded and unloaded there.",
)
@_access("--enable-admin", is_flag=True, help="Answer below /admin to everybody who may ask at all.")
@_access("--admin-compile", is_flag=True, help="Let /admin compile a model that is not an artifact.")
@_access(
    "--cors-origin",
    "cors_origins",
    metavar="ORIGIN",
    multiple=True,
    help="Let scripts of this web site ask, such as https://example.org; * is any.",
)
@_traffic(
    "--max-queued-requests",
    metavar="N",
    type=click.IntRange(min=1),
    help="Most requests that wait to be started; further ones are refused.",
)
@_traffic(
    "--requests-per-minute",
    metavar="N",
    type=click.IntRange(min=1),
    help="Most requests of each API key, or of each address where there are no keys.",
)
@_traffic(
    "--tokens-per-minute",
    metavar="N",
    type=click.IntRange(min=1),
    help="Most tokens of each, prompts and answers together.",
)
@_traffic(
    "--max-request-bytes", metavar="SIZE", default="4MiB", show_default=True, help="Largest request body."
)
@_operation(
    "--drain-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    help="How long SIGTERM lets what runs finish before it is aborted.",
)
@_operation(
    "--access-log", is_flag=True, help="Log each request to stderr, one JSON object a line; so does -v."
)
@verbose_option
def serve(
    models: Sequence[str],
    host: str,
    port: int,
    names: Sequence[str],
    kv_memory: str,
    max_seq_len: int | None,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    prefix_caching: bool,
    device: str,
    tool_dialect: str | None,
    reasoning_marks: str | None,
    api_keys: Sequence[str],
    api_key_file: Path | None,
    admin_keys: Sequence[str],
    enable_admin: bool,
    admin_compile: bool,
    cors_origins: Sequence[str],
    max_queued_requests: int | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    max_request_bytes: str,
    drain_timeout: float,
    access_log: bool,
    verbose: int,
) -> None:
    """Serve models over HTTP in OpenAI's format, until SIGTERM or Ctrl-C.

    A MODEL that is not an artifact is compiled once into the user's cache.
    """
    if names and len(names) != len(models):
        raise click.UsageError(f"{len(models)} models are served under {len(names)} names")
    configure_logging(verbose)
    # Seconds of imports, and only this command needs them.
    from ..engine.async_engine import AsyncEngine
    from ..server import (
        EngineOptions,
        KeyRing,
        KeySource,
        ModelLoader,
        ServerOptions,
        enable_access_log,
        name_keys,
        name_requests_in_logs,
    )

    name_requests_in_logs()
    if access_log or verbose:
        enable_access_log()
    keys = KeySource(
        name_keys(api_keys, "key") + name_keys(os.environ.get("INGOT_API_KEY", "").split(), "environment"),
        api_key_file,
    )
    options = ServerOptions(
        admin_keys=KeyRing(name_keys(admin_keys, "admin")),
        enable_admin=enable_admin,
        admin_compile=admin_compile,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_request_bytes=parse_size(max_request_bytes, name="max_request_bytes"),
        cors_origins=cors_origins,
        drain_timeout=drain_timeout,
    )
    engine_options = EngineOptions(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        kv_memory=kv_memory,
        max_seq_len=max_seq_len,
        max_queued_requests=max_queued_requests,
        prefix_caching=prefix_caching,
        tool_dialect=tool_dialect,
        reasoning_marks=reasoning_marks,
        device=device,
    )
    loader = ModelLoader(engine_options, compile_model=AsyncEngine.compile_model)
    log_level = ("warning", "info", "debug")[min(verbose, 2)]
    wanted = [(model, names[place] if names else None) for place, model in enumerate(models)]
    asyncio.run(_serve(host, port, wanted, loader, keys, options, log_level))


async def _serve(
    host: str,
    port: int,
    wanted: Sequence[tuple[str, str | None]],
    loader: "ModelLoader",
    keys: "KeySource",
    options: "ServerOptions",
    log_level: str,
) -> None:
    from ..server import ServedModels, bind, create_app, url_of
    from ..server import serve as serve_app

    # Before a model is loaded, so that a port in use is told at once.
    listener = bind(host, port)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        models = ServedModels(loader=loader)
        stack.push_async_callback(models.close)
        await _load(models, wanted)
        await serve_app(
            create_app(models, api_keys=keys.ring, options=options),
            listener,
            on_ready=lambda: click.echo(f"ingot serving {', '.join(models)} at {url_of(listener)}"),
            on_reload=keys.reload,
            drain_timeout=options.drain_timeout,
            log_level=log_level,
        )


async def _load(models: "ServedModels", wanted: Sequence[tuple[str, str | None]]) -> None:
    """Plan the memory of all models, tell the plans, and load them."""
    planned = [await models.plan(model, name) for model, name in wanted]
    for one in planned:
        click.echo("\n".join([f"memory of {one.name}", *one.plan.lines()]), err=True)
    for one in planned:
        await models.load(one)
