"""tinychat's tokenizer: a byte-level BPE trained on the corpus, and the loss mask over its tokens."""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .corpus import Conversation, Document, training_set

__all__ = ["VOCABULARY_SIZE", "build_tokenizer", "encode", "render"]

VOCABULARY_SIZE = 2048
_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
_END_OF_TEXT, _START, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_TOOL_TAGS = ("<tool_call>", "</tool_call>")
# The split of Qwen2, which other tools know by name: every digit stands alone, so sums can be learned.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def render(tokenizer: PreTrainedTokenizerFast, item: Conversation | Document) -> str:
    if isinstance(item, Document):
        return item.text + _END_OF_TEXT
    messages = [dict(message) for message in item.messages]
    return str(tokenizer.apply_chat_template(messages, tools=list(item.tools) or None, tokenize=False))


def _wrap(bpe: Tokenizer, context_length: int) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=_END,
        pad_token=_END_OF_TEXT,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _TEMPLATE.read_text()
    return tokenizer


def build_tokenizer(
    seed: int, *, context_length: int, num_conversations: int = 8000
) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE on text of the corpus; every byte has a token, so any text has tokens."""
    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(_TOOL_TAGS),
        special_tokens=[_END_OF_TEXT, _START, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Merges never reach across a marker, so the text is learned from without them.
    renderer = _wrap(bpe, context_length)
    rendered = (render(renderer, item) for item in training_set(seed, num_conversations))
    marks = "|".join(map(re.escape, (_END_OF_TEXT, _START, _END, *_TOOL_TAGS)))
    bpe.train_from_iterator((part for text in rendered for part in re.split(marks, text)), trainer)
    # Tags are ordinary tokens and not special ones: a server decodes them to find the calls.
    bpe.add_tokens([AddedToken(tag, normalized=False) for tag in _TOOL_TAGS])
    return _wrap(bpe, context_length)


def encode(tokenizer: PreTrainedTokenizerFast, item: Conversation | Document) -> tuple[list[int], list[bool]]:
    """The tokens of an item, and for each whether the model shall learn to predict it.

    Learned are the answers of the assistant with the token that ends them, and all of a document.
    """
    ids: list[int] = tokenizer.encode(render(tokenizer, item))
    if isinstance(item, Document):
        return ids, [True] * len(ids)
    start, end = tokenizer.convert_tokens_to_ids([_START, _END])
    header = tokenizer.encode(_START + "assistant\n")
    learned, inside = [False] * len(ids), False
    for index, token in enumerate(ids):
        if token == start:
            inside = False
        learned[index] = inside
        if token == end:
            inside = False
        elif ids[max(0, index - len(header) + 1) : index + 1] == header:
            inside = True
    return ids, learned
