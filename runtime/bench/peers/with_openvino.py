"""OpenVINO GenAI, on a GGUF file or a folder of its own, with continuous batching."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import openvino
import openvino_genai

__all__ = ["load"]


def load(request: dict[str, Any]) -> tuple[Any, int]:
    """See the harness."""
    most = max(request["concurrency"])
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_batched_tokens, scheduler.max_num_seqs, scheduler.cache_size = 512, most, 2
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = False
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        request["model"], scheduler, "CPU", {"INFERENCE_NUM_THREADS": request["threads"]}
    )
    numbers = itertools.count()

    def generate(prompts: list[list[int]], num_output_tokens: int) -> int:
        config = openvino_genai.GenerationConfig(max_new_tokens=num_output_tokens, ignore_eos=True)
        # A handle that is dropped takes its request back.
        handles = [
            pipeline.add_request(next(numbers), openvino.Tensor(np.array([prompt], np.int64)), config)
            for prompt in prompts
        ]
        while pipeline.has_non_finished_requests():
            pipeline.step()
        del handles
        return sum(map(len, prompts))

    return generate, most
