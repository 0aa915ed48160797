"""ONNX Runtime GenAI, on a folder of its model builder's, requests as rows of one batch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime_genai

__all__ = ["load"]


def load(request: dict[str, Any]) -> tuple[Any, int]:
    """See the harness."""
    config = onnxruntime_genai.Config(request["model"])
    options = {"intra_op_num_threads": request["threads"]}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = onnxruntime_genai.Model(config)

    def generate(prompts: list[list[int]], num_output_tokens: int) -> int:
        params = onnxruntime_genai.GeneratorParams(model)
        length = len(prompts[0]) + num_output_tokens
        # No end of text before there are as many tokens.
        params.set_search_options(batch_size=len(prompts), min_length=length, max_length=length)
        generator = onnxruntime_genai.Generator(model, params)
        generator.append_tokens(np.array(prompts, np.int32))
        for _ in range(num_output_tokens):
            generator.generate_next_token()
        return sum(map(len, prompts))

    return generate, max(request["concurrency"])
