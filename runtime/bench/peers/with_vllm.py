"""vLLM on a folder as Hugging Face has it, in the dtype of its weights; its build decides where it runs."""

from __future__ import annotations

import os
from typing import Any

os.environ.update(VLLM_CPU_KVCACHE_SPACE="2", VLLM_ENABLE_V1_MULTIPROCESSING="0")

import vllm

__all__ = ["load"]


def load(request: dict[str, Any]) -> tuple[Any, int]:
    """See the harness."""
    most = max(request["concurrency"])
    engine = vllm.LLM(
        request["model"],
        max_model_len=request["prompt_tokens"] + request["output_tokens"] + 8,
        max_num_seqs=max(most, 2),
        max_num_batched_tokens=512,
        enable_chunked_prefill=True,
        enable_prefix_caching=False,
    )

    def generate(prompts: list[list[int]], num_output_tokens: int) -> int:
        params = vllm.SamplingParams(max_tokens=num_output_tokens, ignore_eos=True, temperature=0.0)
        requests = [{"prompt_token_ids": prompt} for prompt in prompts]
        engine.generate(requests, params, use_tqdm=False)
        return sum(map(len, prompts))

    return generate, most
