"""The kinds of devices that a model can be asked to run on."""

from collections.abc import Mapping

__all__ = ["DEVICES", "OF_ONNX", "PROVIDERS"]

OF_ONNX = ("coreml", "webgpu")
"""Those that ONNX Runtime alone knows."""

DEVICES = ("auto", "cpu", "cuda", "metal", *OF_ONNX)
"""``auto`` is the best that artifact and machine have."""

PROVIDERS: Mapping[str, str] = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""What ONNX Runtime calls the ways to run on a device; what one cannot do the processor does."""
