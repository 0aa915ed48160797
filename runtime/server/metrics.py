"""``GET /metrics``: the engines' counts in Prometheus' text format."""

from collections.abc import Iterator

from fastapi import APIRouter, Response

from .models import ServedModels

__all__ = ["metrics_router"]

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Name, kind, help, and the attribute of EngineStats.
_METRICS = (
    ("ingot_requests", "gauge", "Requests in flight.", "num_requests"),
    ("ingot_sequences_running", "gauge", "Sequences running.", "num_running"),
    ("ingot_sequences_waiting", "gauge", "Sequences waiting, preempted ones included.", "num_waiting"),
    ("ingot_kv_pages", "gauge", "Pages of keys and values there are.", "num_pages"),
    ("ingot_kv_pages_used", "gauge", "Pages of keys and values in use.", "num_used_pages"),
    ("ingot_steps_total", "counter", "Steps run.", "num_steps"),
    ("ingot_prompt_tokens_total", "counter", "Prompt tokens of all requests.", "num_prompt_tokens"),
    ("ingot_generated_tokens_total", "counter", "Tokens generated.", "num_generated_tokens"),
    ("ingot_preemptions_total", "counter", "Times a sequence lost its pages.", "num_preemptions"),
)


def metrics_router(models: ServedModels) -> APIRouter:
    """Return the endpoint, telling of the engines of ``models``."""
    router = APIRouter()

    @router.get("/metrics", summary="Counts, in Prometheus' text format", response_class=Response)
    async def metrics() -> Response:
        return Response("".join(f"{line}\n" for line in _lines(models)), media_type=_CONTENT_TYPE)

    return router


def _lines(models: ServedModels) -> Iterator[str]:
    stats = [(_escape(name), engine.stats) for name, engine in models.items()]
    for metric, kind, described, attribute in _METRICS:
        yield f"# HELP {metric} {described}"
        yield f"# TYPE {metric} {kind}"
        for name, counts in stats:
            yield f'{metric}{{model="{name}"}} {getattr(counts, attribute)}'


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
