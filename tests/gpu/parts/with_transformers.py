"""A shape in bfloat16 by transformers, with a static cache, for which its ``generate`` compiles the step:
``with_transformers.py CONFIG.json [--dry]``.
"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

DRY = "--dry" in sys.argv
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RUNS = [(1, 6, 3)] if DRY else [(1, 512, 128), (64, 512, 128), (1, 2048, 8)]
"""Requests at once, tokens of each prompt, and of each answer."""


def main() -> None:
    config = AutoConfig.for_model(**json.loads(Path(sys.argv[1]).read_text()))
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    model.generation_config.cache_implementation = "static"
    model.generation_config.eos_token_id = None
    runs = []
    for count, prompt_tokens, output_tokens in RUNS:
        prompts = torch.randint(0, config.vocab_size, (count, prompt_tokens), device=DEVICE)
        # The first of each compiles. Of two tokens one comes of the prompt, one of a compiled step.
        times = {
            length: min(seconds_of(model, prompts, length) for _ in range(3))
            for length in (2, output_tokens + 1)
        }
        decode = count * (output_tokens - 1) / (times[output_tokens + 1] - times[2])
        rates = {"decode_tok_s": decode, "prefill_tok_s": count * prompt_tokens / (times[2] - count / decode)}
        runs.append({"concurrency": count, "prompt_tokens": prompt_tokens, **rates, "quant": "bfloat16"})
    print(json.dumps({"device": DEVICE, "runs": runs}))


def seconds_of(model: torch.nn.Module, prompts: torch.Tensor, num_tokens: int) -> float:
    started = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            do_sample=False,
        )
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


main()
