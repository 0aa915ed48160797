"""llama.cpp through llama-cpp-python, on a GGUF file, all requests in one context."""

from __future__ import annotations

import sys
from typing import Any

import llama_cpp
import numpy as np

__all__ = ["load"]

_BATCH = 512
_ALL_LAYERS = 999


def load(request: dict[str, Any]) -> tuple[Any, int]:
    """See the harness."""
    most = max(request["concurrency"])
    llama_cpp.llama_backend_init()
    of_model = llama_cpp.llama_model_default_params()
    of_model.n_gpu_layers = _ALL_LAYERS if request["device"] == "gpu" else 0
    if of_model.n_gpu_layers and not llama_cpp.llama_supports_gpu_offload():
        sys.exit("this build of llama.cpp runs on CPUs only")
    model = llama_cpp.llama_model_load_from_file(request["model"].encode(), of_model)
    if not model:
        sys.exit(f"{request['model']} cannot be loaded")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = most * (request["prompt_tokens"] + request["output_tokens"] + 8)
    params.n_batch = params.n_ubatch = _BATCH
    params.n_seq_max = most
    params.n_threads = params.n_threads_batch = request["threads"]
    params.flash_attn_type = 1
    context = llama_cpp.llama_init_from_model(model, params)
    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def decode(items: list[tuple[int, int, int, bool]]) -> list[int]:
        """Run token, position, sequence, and whether it is asked for; what is likeliest behind these."""
        batch = llama_cpp.llama_batch_init(len(items), 0, 1)
        batch.n_tokens = len(items)
        for index, (token, position, sequence, is_asked) in enumerate(items):
            batch.token[index], batch.pos[index], batch.n_seq_id[index] = token, position, 1
            batch.seq_id[index][0], batch.logits[index] = sequence, is_asked
        if llama_cpp.llama_decode(context, batch):
            sys.exit("llama_decode failed")
        asked = [index for index, item in enumerate(items) if item[3]]
        found = [
            int(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, index), (vocab_size,)).argmax())
            for index in asked
        ]
        llama_cpp.llama_batch_free(batch)
        return found

    def generate(prompts: list[list[int]], num_output_tokens: int) -> int:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        length = len(prompts[0])
        tokens = [
            (token, position, sequence, position == length - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        newest: list[int] = []
        for first in range(0, len(tokens), _BATCH):
            newest += decode(tokens[first : first + _BATCH])
        for position in range(length, length + num_output_tokens - 1):
            newest = decode([(token, position, sequence, True) for sequence, token in enumerate(newest)])
        return len(tokens)

    return generate, most
