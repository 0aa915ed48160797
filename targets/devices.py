"""The kinds of devices that a model can be asked to run on."""

__all__ = ["DEVICES"]

DEVICES = ("auto", "cpu", "cuda", "coreml", "webgpu")
"""``auto`` is the best that artifact and machine have; the last two are ONNX Runtime's alone."""
