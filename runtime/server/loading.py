"""From what an operator names to an engine, with its memory planned before anything of it is loaded."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...ir.errors import RequestError
from ...targets import Manifest, available_memory_bytes, find_gpus, find_metal_gpu, read_manifest
from ...targets.manifest import LibraryRecord
from ...targets.sizes import parse_size_or_auto
from ..chat.dialects import dialect_named
from ..chat.reasoning import reasoning_named
from ..engine.async_engine import AsyncEngine
from ..engine.base_engine import artifact_path
from ..execution.memory_plan import GPU_KV_SHARE, KV_SHARE, PlannedMemory, plan_memory

__all__ = ["EngineOptions", "ModelLoader"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What every engine of a server is made with; see :class:`AsyncEngine`.

    Raises:
        RequestError: there is no dialect, or no way to mark reasoning, of that name.
    """

    max_num_seqs: int = 16
    max_num_batched_tokens: int = 512
    kv_memory: str | int | None = "1GiB"
    max_seq_len: int | None = None
    max_queued_requests: int | None = None
    prefix_caching: bool = True
    tool_dialect: str | None = None
    reasoning_marks: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.tool_dialect is not None:
            dialect_named(self.tool_dialect)
        if self.reasoning_marks is not None:
            reasoning_named(self.reasoning_marks)


class ModelLoader:
    """Opens, plans and loads models. Opening and loading block for as long as the disk takes."""

    def __init__(
        self,
        options: EngineOptions,
        *,
        compile_model: Callable[[str], Path] | None,
        available: int | None = None,
    ) -> None:
        """Look how much memory there is for all models together.

        Args:
            options: for every engine.
            compile_model: makes an artifact of what is none; ``None``: only artifacts are taken.
            available: bytes of memory; ``None``: what this machine, or this container, has left now.
        """
        self._options = options
        self._compile_model = compile_model
        # Looked at once, before anything is loaded: pages that are promised to a model look free until they
        # are written to.
        self._available = available_memory_bytes() if available is None else available

    def open(self, model: str, *, may_compile: bool) -> tuple[Path, Manifest]:
        """Return a model's artifact folder and its manifest; where it is no artifact it may be compiled.

        Raises:
            ArtifactError: it is no artifact, and nothing compiles it here; or one that cannot be used.
        """
        folder = artifact_path(model, self._compile_model if may_compile else None)
        return folder, read_manifest(folder)

    def plan(self, manifest: Manifest, *, taken: int) -> PlannedMemory:
        """Plan a model's memory beside the ``taken`` bytes of others; raises as :func:`plan_memory` does."""
        options = self._options
        available, kv_share = self._available_to(manifest)
        return plan_memory(
            manifest,
            kv_memory=parse_size_or_auto(options.kv_memory, name="kv_memory"),
            max_num_seqs=options.max_num_seqs,
            max_num_batched_tokens=options.max_num_batched_tokens,
            max_seq_len=options.max_seq_len,
            available_bytes=max(0, available - taken),
            kv_share=kv_share,
        )

    def _available_to(self, manifest: Manifest) -> tuple[int, float]:
        """Bytes of the memory that a model will lie in, a GPU's where it will run on one, and the part that
        pages may take of what all else leaves.
        """
        for library in manifest.libraries:
            if self._options.device in ("auto", library.backend):
                gpu_memory = _gpu_memory_bytes(library)
                if gpu_memory is not None:
                    # Driver and kernels take some before there is a model.
                    return gpu_memory - gpu_memory // 32, GPU_KV_SHARE
        return self._available, KV_SHARE

    def load(self, folder: Path, plan: PlannedMemory) -> AsyncEngine:
        """Load an artifact into what was planned for it; raises as :class:`AsyncEngine` does."""
        options = self._options
        engine = AsyncEngine(
            folder,
            max_num_seqs=options.max_num_seqs,
            max_num_batched_tokens=options.max_num_batched_tokens,
            kv_memory=plan.kv_bytes,
            max_seq_len=options.max_seq_len,
            max_queued_requests=options.max_queued_requests,
            prefix_caching=options.prefix_caching,
            device=options.device,
        )
        engine.tool_dialect = options.tool_dialect
        engine.reasoning_marks = options.reasoning_marks
        # Now, while nobody waits: reading a large vocabulary holds up every thread. A model for whose kind of
        # tokenizer there are no grammars says so to those who ask for one.
        with suppress(RequestError):
            engine.warm_grammars()
        return engine


def _gpu_memory_bytes(library: LibraryRecord) -> int | None:
    """All memory of the GPU that a library would run on here; None where it runs on none."""
    if library.backend == "metal":
        mac = find_metal_gpu()
        return None if mac is None else mac.memory_bytes
    gpus = find_gpus() if library.backend == "cuda" else ()
    return next((gpu.memory_bytes for gpu in gpus if gpu.runs(library.features[0])), None)
