"""From the path of an artifact to what an engine runs on."""

from dataclasses import dataclass
from pathlib import Path

from ..execution.model_info import ModelInfo
from ..scheduling.step import Executor
from ..scheduling.vectors import VectorExecutor
from ..text.tokenizer import Tokenizer

__all__ = ["Loaded", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run."""

    executor: Executor | VectorExecutor
    tokenizer: Tokenizer
    info: ModelInfo


def load(
    model: Path,
    *,
    kv_memory: int | None,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    device: str = "auto",
) -> Loaded:
    """Open an artifact folder and put its model on the device.

    Args:
        model: the artifact folder.
        kv_memory: bytes for the pages of keys and values; ``None``: as many as the executor finds right.
        max_num_seqs: most sequences in a step.
        max_num_batched_tokens: most tokens in a step.
        device: ``cpu``, ``cuda``, ``metal`` and, for ONNX Runtime, ``coreml`` or ``webgpu``; ``auto``: the
            best.

    Raises:
        ArtifactError: the artifact is altered, truncated, of another schema or for another machine.
    """
    # The backend takes seconds to import: nobody pays for it before there is a model to run.
    from ..execution.artifact import open_artifact

    artifact = open_artifact(model)
    library = artifact.library(device=device)
    generates = artifact.info.task == "generate"
    executor: Executor | VectorExecutor
    match library.backend, generates:
        case "onnx", True:
            from ..execution.onnx_executor import OnnxExecutor

            executor = OnnxExecutor(
                artifact,
                library,
                kv_memory=kv_memory,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=max_num_batched_tokens,
                device=device,
            )
        case (("cuda" | "metal"), True):
            from ..execution.gpu.gpu_executor import GpuExecutor
            from ..execution.gpu.opening import open_device

            executor = GpuExecutor(
                artifact,
                library,
                open_device(artifact, library),
                kv_memory=kv_memory,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=max_num_batched_tokens,
            )
        case (("cuda" | "metal"), False):
            from ..execution.gpu.gpu_vector_executor import GpuVectorExecutor
            from ..execution.gpu.opening import open_device

            executor = GpuVectorExecutor(
                artifact,
                library,
                open_device(artifact, library),
                max_num_batched_tokens=max_num_batched_tokens,
            )
        case "onnx", False:
            from ..execution.onnx_vector_executor import OnnxVectorExecutor

            executor = OnnxVectorExecutor(
                artifact, library, max_num_batched_tokens=max_num_batched_tokens, device=device
            )
        case _, True:
            from ..execution.tvm_executor import TvmExecutor

            executor = TvmExecutor(
                artifact,
                kv_memory=kv_memory,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=max_num_batched_tokens,
            )
        case _:
            from ..execution.tvm_vector_executor import TvmVectorExecutor

            executor = TvmVectorExecutor(artifact, max_num_batched_tokens=max_num_batched_tokens)
    return Loaded(executor=executor, tokenizer=Tokenizer.load(artifact.tokenizer_folder), info=artifact.info)
