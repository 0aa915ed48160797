"""Which models are served: the one place that knows, and where they come and go."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...ir.errors import UnavailableError
from ..engine.async_engine import AsyncEngine
from ..engine.request import Observer
from ..execution.memory_plan import PlannedMemory
from .errors import ApiError
from .loading import ModelLoader
from .schemas import ModelCard

__all__ = ["PlannedModel", "ServedModel", "ServedModels"]


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model that is about to be loaded: its name, its artifact's folder, and its memory."""

    name: str
    folder: Path
    plan: PlannedMemory


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, wherever it is on its way.

    Attributes:
        name: what clients call it.
        state: whether it answers; one that is unloading still answers those who asked before.
        engine: what answers; ``None`` while it is being loaded.
        folder: its artifact, where it is known.
        plan: its memory, where it was planned.
    """

    name: str
    state: Literal["loading", "ready", "unloading", "failed"]
    engine: AsyncEngine | None
    folder: Path | None = None
    plan: PlannedMemory | None = None


class ServedModels:
    """The engines by the names that clients ask for. Used from one event loop."""

    def __init__(
        self, engines: Mapping[str, AsyncEngine] | None = None, *, loader: ModelLoader | None = None
    ) -> None:
        """Begin with ``engines``; a ``loader`` is needed only to load others."""
        self._engines = dict(engines or {})
        self._loader = loader
        self._planned: dict[str, PlannedModel] = {}
        self._leaving: dict[str, AsyncEngine] = {}
        self._make_observer: Callable[[str], Observer] | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._engines))

    def items(self) -> Iterator[tuple[str, AsyncEngine]]:
        """Return the names and their engines."""
        return iter(list(self._engines.items()))

    def engine(self, name: str | None) -> AsyncEngine:
        """Return the engine that serves ``name``; ``None`` is the only one there is.

        Raises:
            ApiError: 404, the name is not served; 400, none was given and several are.
            UnavailableError: it is served, but takes no requests: it has failed, or is shutting down.
        """
        if name is None and len(self._engines) == 1:
            name = next(iter(self._engines))
        served = ", ".join(self._engines) or "nothing"
        if name is None:
            raise ApiError(400, f"model is required; served: {served}", param="model")
        engine = self._engines.get(name)
        if engine is None:
            message = f"the model {name!r} does not exist here; served: {served}"
            raise ApiError(404, message, param="model", code="model_not_found")
        if engine.refusal is not None:
            raise UnavailableError(engine.refusal)
        return engine

    def card(self, name: str) -> ModelCard:
        """Return what ``/v1/models`` tells of a model.

        Raises:
            ApiError: 404, the name is not served.
        """
        engine = self._engines.get(name)
        if engine is None:
            engine = self.engine(name)
        planned = self._planned.get(name)
        lengths = [engine.limits.max_seq_len, *([planned.plan.max_seq_len] if planned else [])]
        return ModelCard(
            id=name, object="model", created=engine.info.created, owned_by="ingot", max_model_len=min(lengths)
        )

    def all(self) -> list[ServedModel]:
        """Return every model there is, those that come and those that go included."""
        names = dict.fromkeys([*self._engines, *self._leaving, *self._planned])
        return [self.find(name) for name in names]

    def find(self, name: str) -> ServedModel:
        """Return a model, wherever it is on its way.

        Raises:
            ApiError: 404, there is none of that name.
        """
        planned = self._planned.get(name)
        folder, plan = (planned.folder, planned.plan) if planned else (None, None)
        if (engine := self._engines.get(name)) is not None:
            return ServedModel(name, "ready" if engine.refusal is None else "failed", engine, folder, plan)
        if (engine := self._leaving.get(name)) is not None:
            return ServedModel(name, "unloading", engine, folder, plan)
        if planned is not None:
            return ServedModel(name, "loading", None, folder, plan)
        raise ApiError(404, f"the model {name!r} does not exist here", param="name", code="model_not_found")

    def observe(self, make_observer: Callable[[str], Observer]) -> None:
        """Let all engines, those to come included, be observed by what this returns for their names."""
        self._make_observer = make_observer
        for name, engine in self._engines.items():
            engine.observer = make_observer(name)

    async def plan(self, model: str, name: str | None = None, *, may_compile: bool = True) -> PlannedModel:
        """Plan a model's memory, and keep it and the name for :meth:`load`.

        Args:
            model: an artifact folder, or what the loader makes one of.
            name: what clients will call it; ``None``: as it calls itself.
            may_compile: let the loader compile what is no artifact.

        Raises:
            ApiError: 409, the name is taken.
            ArtifactError: it is no artifact, or not one for here.
            CapacityError: it does not fit beside the others.
        """
        if self._loader is None:
            raise ApiError(409, "this server was not made to load models", code="cannot_load")
        if name is not None:
            self._check_free(name)
        folder, manifest = await asyncio.to_thread(self._loader.open, model, may_compile=may_compile)
        # No other task runs between check and entry, so nobody else can take the name or the memory.
        name = manifest.model.name if name is None else name
        self._check_free(name)
        taken = sum(planned.plan.total_bytes for planned in self._planned.values())
        planned = PlannedModel(name, folder, self._loader.plan(manifest, taken=taken))
        self._planned[name] = planned
        return planned

    async def load(self, planned: PlannedModel) -> None:
        """Load a model that was planned, and serve it; whoever waits meanwhile is answered all the same.

        Raises:
            ArtifactError: the artifact was altered.
        """
        if self._loader is None:
            raise RuntimeError("a model was planned without a loader")
        try:
            engine = await asyncio.to_thread(self._loader.load, planned.folder, planned.plan)
        except BaseException:
            del self._planned[planned.name]
            raise
        if self._make_observer is not None:
            engine.observer = self._make_observer(planned.name)
        self._engines[planned.name] = engine

    async def unload(self, name: str, *, timeout: float) -> bool:
        """Serve a model no longer: let what runs finish, for ``timeout`` seconds, and free its memory.

        Returns:
            Whether all requests could finish; those that could not were aborted.

        Raises:
            ApiError: 404, there is none of that name that is served.
        """
        engine = self._engines.pop(name, None)
        if engine is None:
            message = f"the model {name!r} is not served; served: {', '.join(self._engines) or 'nothing'}"
            raise ApiError(404, message, param="name", code="model_not_found")
        self._leaving[name] = engine
        try:
            return await _end(engine, timeout)
        finally:
            del self._leaving[name]
            self._planned.pop(name, None)

    async def close(self) -> None:
        """Abort what still runs, and free all memory."""
        engines = [*self._engines.values(), *self._leaving.values()]
        await asyncio.gather(*(engine.close() for engine in engines))

    def _check_free(self, name: str) -> None:
        if name in self._engines or name in self._leaving or name in self._planned:
            message = (
                f"a model named {name!r} is here already; --served-model-name, or name, gives it another"
            )
            raise ApiError(409, message, param="name", code="name_taken")


async def _end(engine: AsyncEngine, timeout: float) -> bool:
    try:
        await asyncio.wait_for(engine.drain(), timeout)
    except TimeoutError:
        return False
    finally:
        await engine.close()
    return True
