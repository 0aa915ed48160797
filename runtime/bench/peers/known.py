"""The systems there are modules for, and which models each can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PEERS", "Peer"]


def _is_gguf(path: Path) -> bool:
    return path.suffix == ".gguf" and path.is_file()


def _is_hugging_face(path: Path) -> bool:
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def _is_onnx(path: Path) -> bool:
    return (path / "genai_config.json").is_file()


def _is_openvino(path: Path) -> bool:
    return (path / "openvino_model.xml").is_file()


@dataclass(frozen=True, slots=True)
class Peer:
    """Another system: its name, the module beside ``harness.py`` that runs it, what it can read, and on which
    devices (``cpu``, ``gpu``) it is compared.
    """

    name: str
    module: str
    reads: Callable[[Path], bool]
    wants: str
    devices: tuple[str, ...] = ("cpu",)


_HUGGING_FACE = "a folder with config.json and safetensors"

PEERS: tuple[Peer, ...] = (
    Peer("llama.cpp", "with_llama_cpp", _is_gguf, "a .gguf file", ("cpu", "gpu")),
    Peer(
        "openvino",
        "with_openvino",
        lambda path: _is_gguf(path) or _is_openvino(path),
        "a .gguf file or a folder of its own",
    ),
    Peer("onnxruntime", "with_onnxruntime", _is_onnx, "a folder with a genai_config.json"),
    Peer("mistral.rs", "with_mistralrs", _is_gguf, "a .gguf file"),
    Peer("vllm", "with_vllm", _is_hugging_face, _HUGGING_FACE, ("cpu", "gpu")),
    Peer("transformers", "with_transformers", _is_hugging_face, _HUGGING_FACE, ("gpu",)),
)
"""Every system, in the order in which they run."""
