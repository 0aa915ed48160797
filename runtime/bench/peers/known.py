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
    """Another system: its name, the module beside ``harness.py`` that runs it, and what it can read."""

    name: str
    module: str
    reads: Callable[[Path], bool]
    wants: str


PEERS: tuple[Peer, ...] = (
    Peer("llama.cpp", "with_llama_cpp", _is_gguf, "a .gguf file"),
    Peer(
        "openvino",
        "with_openvino",
        lambda path: _is_gguf(path) or _is_openvino(path),
        "a .gguf file or a folder of its own",
    ),
    Peer("onnxruntime", "with_onnxruntime", _is_onnx, "a folder with a genai_config.json"),
    Peer("mistral.rs", "with_mistralrs", _is_gguf, "a .gguf file"),
    Peer("vllm", "with_vllm", _is_hugging_face, "a folder with config.json and safetensors"),
)
"""Every system, in the order in which they run."""
