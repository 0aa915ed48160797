"""The kinds of devices that a model can be asked to run on."""

__all__ = ["DEVICES", "OF_ONNX"]

OF_ONNX = ("coreml", "webgpu")
"""Those that ONNX Runtime alone knows."""

DEVICES = ("auto", "cpu", "cuda", "metal", *OF_ONNX)
"""``auto`` is the best that artifact and machine have."""
