"""Where the graphs of an artifact lie that the ONNX backend wrote."""

__all__ = ["COPIED_PAGES", "FOLDER", "NEW_PAGES", "STEP"]

FOLDER = "onnx"
"""The folder inside an artifact, which ONNX' tools can be pointed at."""

STEP = f"{FOLDER}/step.onnx"
"""What a step computes."""

NEW_PAGES = f"{FOLDER}/new_pages.onnx"
"""Makes the states of a model, all zeros, wherever the graph runs."""

COPIED_PAGES = f"{FOLDER}/copied_pages.onnx"
"""Copies a page of every state."""
