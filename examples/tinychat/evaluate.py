"""Measure tinychat on held-back prompts of every kind; prints the markdown table of README.md.

All answers are greedy. In conversations of several turns the model goes on from its own answers and
each of them must be right word for word.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from .corpus import Conversation, HeldBack, held_back_set
from .vocabulary import encode, render

_HERE = Path(__file__).parent
_BATCH = 50
_CALL = re.compile(r"^<tool_call>(.*)</tool_call>$", re.DOTALL)


_Messages = Sequence[Mapping[str, object]]
_Tools = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    prompts: str
    measure: str
    num_prompts: int
    result: str


@dataclass(frozen=True)
class Chat:
    """A loaded checkpoint that answers greedily."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    def answer(self, conversations: Sequence[_Messages], tools: Sequence[_Tools] | None = None) -> list[str]:
        """The next answer in each conversation, without the token that ends it."""
        texts = [
            self.tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools[index]) if tools else None,
                add_generation_prompt=True,
                tokenize=False,
            )
            for index, messages in enumerate(conversations)
        ]
        answers: list[str] = []
        for start in range(0, len(texts), _BATCH):
            inputs = self.tokenizer(
                texts[start : start + _BATCH], padding=True, padding_side="left", return_tensors="pt"
            )
            with torch.inference_mode():
                output = self.model.generate(**inputs, max_new_tokens=200, do_sample=False)
            new = output[:, inputs["input_ids"].shape[1] :]
            answers += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return answers


def _first_prompts(held: Sequence[HeldBack]) -> list[_Messages]:
    return [[dict(item.exchange.messages[0])] for item in held]


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _share(flags: list[bool]) -> str:
    return f"{100 * sum(flags) / len(flags):.1f} %"


def measure_sums(chat: Chat, count: int) -> list[Row]:
    """Share of sums whose answer is right word for word."""
    held = held_back_set("sums", count)
    answers = chat.answer(_first_prompts(held))
    right = [answer == item.exchange.expected for answer, item in zip(answers, held, strict=True)]
    return [Row("Sums of two numbers", "right", len(held), _share(right))]


def measure_questions(chat: Chat, count: int) -> list[Row]:
    """Share of right answers, and of conversations in which every answer is right."""
    held = held_back_set("questions", count)
    talks: list[list[dict[str, object]]] = [[] for _ in held]
    right: list[list[bool]] = [[] for _ in held]
    for turn in range(0, max(len(item.exchange.messages) for item in held), 2):
        open_talks = [index for index, item in enumerate(held) if turn < len(item.exchange.messages)]
        for index in open_talks:
            talks[index].append(dict(held[index].exchange.messages[turn]))
        answers = chat.answer([talks[index] for index in open_talks])
        for index, answer in zip(open_talks, answers, strict=True):
            right[index].append(answer == held[index].exchange.messages[turn + 1]["content"])
            talks[index].append({"role": "assistant", "content": answer})
    every = [flag for flags in right for flag in flags]
    return [
        Row("Questions in one or several turns", "answers right", len(every), _share(every)),
        Row("", "conversations right throughout", len(held), _share([all(flags) for flags in right])),
    ]


def measure_json(chat: Chat, count: int) -> list[Row]:
    """Share of answers that parse, and of those that hold the right value."""
    held = held_back_set("json", count)
    values = [_parsed(answer) for answer in chat.answer(_first_prompts(held))]
    valid = [isinstance(value, dict) for value in values]
    right = [value == item.exchange.expected for value, item in zip(values, held, strict=True)]
    return [
        Row("Answers as JSON", "a valid object", len(held), _share(valid)),
        Row("", "the right object", len(held), _share(right)),
    ]


def measure_tools(chat: Chat, count: int) -> list[Row]:
    """Share of answers that are one call of an offered tool, and of the right calls."""
    held = held_back_set("tools", count)
    answers = chat.answer(_first_prompts(held), [item.tools for item in held])
    valid: list[bool] = []
    right: list[bool] = []
    for item, answer in zip(held, answers, strict=True):
        found = _CALL.match(answer)
        call = _parsed(found.group(1)) if found else None
        valid.append(isinstance(call, dict) and call.get("name") in _names(item))
        right.append(call == item.exchange.expected)
    return [
        Row("Tool calls", "a valid call of an offered tool", len(held), _share(valid)),
        Row("", "the right tool and arguments", len(held), _share(right)),
    ]


def _names(item: HeldBack) -> list[object]:
    functions = [tool["function"] for tool in item.tools]
    return [function["name"] for function in functions if isinstance(function, dict)]


def measure_stories(chat: Chat, count: int) -> list[Row]:
    """Perplexity of held-back stories, per token, given the request for them."""
    loss, num_tokens = 0.0, 0
    held = held_back_set("stories", count)
    for item in held:
        ids, learned = encode(chat.tokenizer, Conversation(item.exchange.messages[:2]))
        tokens = torch.tensor([ids])
        with torch.inference_mode():
            log_probabilities = chat.model(tokens).logits[0, :-1].float().log_softmax(-1)
        picked = log_probabilities.gather(1, tokens[0, 1:, None])[:, 0]
        mask = torch.tensor(learned[1:])
        loss -= picked[mask].sum().item()
        num_tokens += int(mask.sum())
    return [Row("Stories", "perplexity per token", len(held), f"{math.exp(loss / num_tokens):.2f}")]


_MEASURES: tuple[Callable[[Chat, int], list[Row]], ...] = (
    measure_sums,
    measure_questions,
    measure_json,
    measure_tools,
    measure_stories,
)


def held_back_text(tokenizer: PreTrainedTokenizerFast, count: int) -> str:
    """``count`` stories as the chat template renders them with the prompts that ask for them.

    A text for ``ingot verify``: almost all of it is what the model learned to say, so its perplexity means
    something, which that of schemas and made-up words in other kinds' prompts does not.
    """
    held = held_back_set("stories", count)
    return "".join(render(tokenizer, Conversation(item.exchange.messages)) for item in held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=_HERE / "model")
    parser.add_argument("--count", type=int, default=200, help="held-back prompts of each kind")
    parser.add_argument("--ask", nargs="*", help="only answer these prompts")
    parser.add_argument("--write-text", type=Path, help="only write held-back stories to a file")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if options.write_text is not None:
        options.write_text.write_text(held_back_text(tokenizer, options.count), encoding="utf-8")
        return
    chat = Chat(AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32), tokenizer)
    for prompt in options.ask or ():
        print(f"> {prompt}\n{chat.answer([[{'role': 'user', 'content': prompt}]])[0]}\n")
    if options.ask:
        return
    print("| held-back prompts | measure | number | result |\n|---|---|---:|---:|")
    for measure in _MEASURES:
        for row in measure(chat, options.count):
            print(f"| {row.prompts} | {row.measure} | {row.num_prompts} | {row.result} |", flush=True)


if __name__ == "__main__":
    main()
