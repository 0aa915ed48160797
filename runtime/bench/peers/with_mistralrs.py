"""mistral.rs, on a GGUF file, one request at a time: its Python answers texts, and one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mistralrs

__all__ = ["load"]


def load(request: dict[str, Any]) -> tuple[Any, int]:
    """See the harness."""
    model = Path(request["model"])
    runner = mistralrs.Runner(
        which=mistralrs.Which.GGUF(
            tok_model_id=request.get("tokenizer"),
            quantized_model_id=str(model.parent),
            quantized_filename=model.name,
        ),
        no_kv_cache=False,
    )

    def generate(prompts: list[list[int]], num_output_tokens: int) -> int:
        (prompt,) = prompts
        answer = runner.send_completion_request(
            mistralrs.CompletionRequest(
                model="default",
                prompt=runner.detokenize_text(prompt, skip_special_tokens=True),
                max_tokens=num_output_tokens,
                temperature=0.0,
                ignore_eos=True,
            )
        )
        return int(answer.usage.prompt_tokens)

    return generate, 1
