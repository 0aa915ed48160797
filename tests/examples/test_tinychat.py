"""The tinychat folder keeps its promises: sizes, widths, a repeatable corpus, and prompts truly held back."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import jinja2
import pytest
from ingot.examples.tinychat import corpus
from tokenizers import Tokenizer

FOLDER = Path(__file__).parents[2] / "examples" / "tinychat"
MODEL = FOLDER / "model"
BLOCK = 256


def read_json(name: str) -> dict[str, object]:
    content = json.loads((MODEL / name).read_text())
    assert isinstance(content, dict)
    return content


def read_header() -> dict[str, dict[str, object]]:
    with (MODEL / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    assert isinstance(header, dict)
    return header


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_checkpoint_is_whole_and_small() -> None:
    names = {path.name for path in MODEL.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names >= {"generation_config.json", "chat_template.jinja"}
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 12_000_000


def test_every_width_is_a_multiple_of_256() -> None:
    config = read_json("config.json")
    assert config["model_type"] == "llama"
    for name in ("hidden_size", "intermediate_size", "vocab_size"):
        assert int(str(config[name])) % BLOCK == 0, name
    head_dim = int(str(config["head_dim"]))
    for name in ("num_attention_heads", "num_key_value_heads"):
        assert int(str(config[name])) * head_dim % BLOCK == 0, name
    assert config["num_key_value_heads"] != config["num_attention_heads"]


def test_weights_are_bfloat16_and_three_to_six_million() -> None:
    num_parameters = 0
    for name, entry in read_header().items():
        assert entry["dtype"] == "BF16", name
        shape = entry["shape"]
        assert isinstance(shape, list)
        size = 1
        for width in shape:
            assert width % BLOCK == 0, (name, shape)
            size *= width
        num_parameters += size
    assert 3_000_000 <= num_parameters <= 6_000_000


@pytest.mark.parametrize("text", ["What is 23 + 45?", "naïve café", "日本語 🎉", "a\tb\r\n  c", "\x00\x7f"])
def test_tokenizer_takes_any_text(text: str) -> None:
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert max(ids) < int(str(read_json("config.json")["vocab_size"]))


def test_every_digit_is_a_token_of_its_own() -> None:
    tokens = Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode("123 + 45").tokens
    assert [token for token in tokens if token.isdigit()] == ["1", "2", "3", "4", "5"]


def test_generation_ends_at_the_end_of_a_message() -> None:
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    assert read_json("generation_config.json")["eos_token_id"] == tokenizer.token_to_id("<|im_end|>")


def render(**arguments: object) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((MODEL / "chat_template.jinja").read_text()).render(**arguments)


def test_chat_template_renders_roles_tools_and_calls() -> None:
    function = {"name": "add", "description": "Add.", "parameters": {"type": "object", "properties": {}}}
    text = render(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Add 1 and 2."}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "3"},
        ],
        tools=[{"type": "function", "function": function}],
        add_generation_prompt=True,
    )
    assert text.startswith("<|im_start|>system\nBe brief.\n\n")
    assert '"name": "add"' in text[: text.index("</tools>")]
    assert "<|im_start|>user\nAdd 1 and 2.<|im_end|>\n" in text
    assert (
        '<|im_start|>assistant\n<tool_call>{"name": "add", "arguments": {}}</tool_call><|im_end|>\n' in text
    )
    assert text.endswith("<|im_start|>tool\n3<|im_end|>\n<|im_start|>assistant\n")


def test_chat_template_without_system_begins_with_the_user() -> None:
    assert render(messages=[{"role": "user", "content": "hi"}]) == "<|im_start|>user\nhi<|im_end|>\n"


def test_shipped_template_is_the_one_trained_with() -> None:
    assert (MODEL / "chat_template.jinja").read_text() == (FOLDER / "chat_template.jinja").read_text()


def test_corpus_depends_on_its_seed_alone() -> None:
    first, again = list(corpus.training_set(3, 300)), list(corpus.training_set(3, 300))
    assert first == again
    assert first != list(corpus.training_set(4, 300))


def texts_of_user(messages: Iterable[Mapping[str, object]]) -> list[str]:
    return [str(message["content"]) for message in messages if message["role"] == "user"]


def numbers_in(text: str) -> list[int]:
    return sorted(map(int, re.findall(r"\d+", text)))


def test_held_back_prompts_never_occur_in_training() -> None:
    conversations = [item for item in corpus.training_set(0, 5000) if isinstance(item, corpus.Conversation)]
    prompts = [text for item in conversations for text in texts_of_user(item.messages)]
    trained = {words(prompt) for prompt in prompts}
    assert len(trained) > 3000
    for kind in ("sums", "json", "tools", "stories"):
        held = corpus.held_back_set(kind, 100)
        assert len(held) == 100
        for item in held:
            assert words(texts_of_user(item.exchange.messages)[0]) not in trained
    for item in corpus.held_back_set("questions", 100):
        assert {words(text) for text in texts_of_user(item.exchange.messages)} - trained


def test_numbers_of_held_back_sums_are_never_added_in_training() -> None:
    conversations = [item for item in corpus.training_set(0, 5000) if isinstance(item, corpus.Conversation)]
    prompts = [text for item in conversations for text in texts_of_user(item.messages)]
    sums = [prompt for prompt in prompts if re.search(r"\+|plus|add|sum", prompt.lower())]
    added = [numbers for numbers in map(numbers_in, sums) if len(numbers) == 2]
    assert len(added) > 2000
    for item in corpus.held_back_set("sums", 200):
        assert numbers_in(texts_of_user(item.exchange.messages)[0]) not in added


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="sums, questions, json, tools, stories"):
        corpus.held_back_set("poems", 1)


def test_sums_and_json_in_the_corpus_are_right() -> None:
    for item in corpus.held_back_set("sums", 100):
        a, b, total = map(int, re.findall(r"\d+", str(item.exchange.expected)))
        assert a + b == total
    for item in corpus.held_back_set("json", 100):
        assert json.loads(str(item.exchange.messages[-1]["content"])) == item.exchange.expected
