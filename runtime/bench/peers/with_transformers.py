"""transformers on a GPU: with a static cache, for which its ``generate`` compiles the step by itself."""

from __future__ import annotations

import sys
from typing import Any

import torch
import transformers

__all__ = ["load"]


def load(request: dict[str, Any]) -> tuple[Any, int]:
    """See the harness."""
    if not torch.cuda.is_available():
        sys.exit("torch shows no GPU")
    model = transformers.AutoModelForCausalLM.from_pretrained(request["model"], dtype="auto").cuda().eval()
    model.generation_config.cache_implementation = "static"

    def generate(prompts: list[list[int]], num_output_tokens: int) -> int:
        ids = torch.tensor(prompts, device="cuda")
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=num_output_tokens,
                min_new_tokens=num_output_tokens,
                do_sample=False,
            )
        torch.cuda.synchronize()
        return int(ids.numel())

    return generate, max(request["concurrency"])
