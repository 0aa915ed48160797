"""Train tinychat from nothing and write its checkpoint; see README.md.

The same seed gives the same corpus, tokenizer, batches and first weights. The length of the run is
counted in conversations and never in time, so a slow machine trains the same model, only longer.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import (
    AttentionInterface,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from .corpus import training_set
from .vocabulary import VOCABULARY_SIZE, build_tokenizer, encode

_HERE = Path(__file__).parent
_CONTEXT_LENGTH = 1024


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on. ``share_of_drills`` is the part of the conversations that only add."""

    seed: int = 0
    num_conversations: int = 40_000
    share_of_drills: float = 0.0
    tokens_per_batch: int = 3072
    learning_rate: float = 4e-3
    warmup_steps: int = 60
    weight_decay: float = 0.05
    clip_norm: float = 1.0


FIRST_RUN = Recipe()
"""From nothing to a model that talks."""

SECOND_RUN = Recipe(
    seed=1, num_conversations=26_000, share_of_drills=0.3, learning_rate=2.5e-3, warmup_steps=40
)
"""On from the first run's checkpoint, with other conversations, many of them nothing but sums."""


@dataclass(frozen=True)
class Batch:
    """Conversations of about the same length, padded on the right: both are ``(sequences, tokens)``.

    Each stands alone in its row and begins at position zero, as it will when it is served.
    """

    ids: torch.Tensor
    learned: torch.Tensor


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention as plain matrix products: on short rows in bfloat16 far faster than the fused one.

    ``query`` is ``(sequences, heads, tokens, head_dim)``; the result has ``tokens`` before ``heads``.
    """
    sequences, heads, tokens, head_dim = query.shape
    # The query heads of one KV head are stacked along the tokens, so that no key is copied.
    stacked = (query * scaling).reshape(sequences, key.shape[1], -1, head_dim)
    scores = (stacked @ key.transpose(-1, -2)).view(sequences, heads, tokens, tokens)
    future = torch.full((tokens, tokens), float("-inf"), dtype=scores.dtype).triu(1)
    weights = (scores + future).softmax(-1).to(value.dtype).view(sequences, key.shape[1], -1, tokens)
    return (weights @ value).view(sequences, heads, tokens, head_dim).transpose(1, 2), None


AttentionInterface.register("tinychat", _attend)


def build_model(seed: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of 4.5 million parameters whose every width is a multiple of 256, so that each divides
    into the blocks of all quantized formats."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=_CONTEXT_LENGTH,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("tinychat")
    return model


def make_batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> list[Batch]:
    """The whole corpus once, in batches of about ``tokens_per_batch`` tokens, in a drawn order."""
    corpus = training_set(recipe.seed, recipe.num_conversations, share_of_drills=recipe.share_of_drills)
    encoded = [encode(tokenizer, item) for item in corpus]
    encoded = [(ids, learned) for ids, learned in encoded if len(ids) <= _CONTEXT_LENGTH]
    encoded.sort(key=lambda pair: len(pair[0]))
    batches = []
    rows: list[tuple[list[int], list[bool]]] = []
    for row in encoded:
        if rows and len(row[0]) * (len(rows) + 1) > recipe.tokens_per_batch:
            batches.append(_pad(rows, tokenizer.pad_token_id))
            rows = []
        rows.append(row)
    batches.append(_pad(rows, tokenizer.pad_token_id))
    random.Random(recipe.seed).shuffle(batches)
    return batches


def _pad(rows: list[tuple[list[int], list[bool]]], pad: int) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows])
    learned = torch.tensor([marks + [False] * (length - len(marks)) for _, marks in rows])
    return Batch(ids, learned)


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy, in nats, over the tokens to be learned; no other position meets the head."""
    hidden = model.model(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state
    learned = batch.learned[:, 1:]
    logits = model.lm_head(hidden[learned])
    return functional.cross_entropy(logits.float(), batch.ids[:, 1:][learned])


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the layers, AdamW for the embedding and the norms."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    rest = [
        {"params": [model.model.embed_tokens.weight], "weight_decay": 0.01},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(
            matrices,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True),
    ]


def _schedule(
    optimizer: torch.optim.Optimizer, warmup_steps: int, num_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A linear warm-up, then a cosine down to nothing."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / max(1, num_steps - warmup_steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train(model: LlamaForCausalLM, batches: list[Batch], recipe: Recipe) -> Iterator[tuple[int, float]]:
    """One step a batch: the corpus is seen once. Yields step and loss."""
    optimizers = _optimizers(model, recipe)
    schedules = [_schedule(optimizer, recipe.warmup_steps, len(batches)) for optimizer in optimizers]
    model.train()
    for step, batch in enumerate(batches, 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, batch)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        yield step, loss.item()


def write_checkpoint(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights in bfloat16, configs, tokenizer and chat template, as `transformers` loads them."""
    model.set_attn_implementation("sdpa")
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_checkpoint(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """What :func:`write_checkpoint` wrote, its weights in float32 again."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.set_attn_implementation("tinychat")
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--second-run-only", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--output", type=Path, default=_HERE / "model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.second_run_only:
        tokenizer = build_tokenizer(FIRST_RUN.seed, context_length=_CONTEXT_LENGTH)
        run(build_model(FIRST_RUN.seed, tokenizer), tokenizer, FIRST_RUN, options.output)
    run(*read_checkpoint(options.output), SECOND_RUN, options.output)


def run(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, output: Path) -> None:
    """Train as ``recipe`` says, printing how it goes, and write the checkpoint to ``output``."""
    begin = time.monotonic()
    batches = make_batches(recipe, tokenizer)
    num_tokens = sum(batch.ids.numel() for batch in batches)
    print(f"{model.num_parameters():,} parameters, {len(batches):,} steps, {num_tokens:,} tokens", flush=True)
    recent: list[float] = []
    for step, loss in train(model, batches, recipe):
        recent.append(loss)
        if step % 50 == 0 or step == len(batches):
            minutes = (time.monotonic() - begin) / 60
            print(f"step {step:,}: loss {sum(recent) / len(recent):.4f}, {minutes:.1f} minutes", flush=True)
            recent.clear()
    write_checkpoint(model, tokenizer, output)
    print(f"wrote {output}", flush=True)


if __name__ == "__main__":
    main()
