"""Traces hold for every length that a model is said to be right for, or are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sympy")
pytest.importorskip("torch")
pytest.importorskip("transformers")

import sympy
from ingot.frontend.torch_export.guards import check_guards
from ingot.frontend.torch_export.tracing import longest_sequence
from ingot.ir.errors import CompileError
from transformers import GPT2Config, Llama4TextConfig

TOKENS = sympy.Symbol("s0", integer=True, positive=True)


def asked(*conditions: Any) -> Any:
    """What a trace leaves of the questions that a model's code asked."""
    return SimpleNamespace(
        guards=[SimpleNamespace(expr=conditions[0])],
        deferred_runtime_asserts={None: [SimpleNamespace(expr=other) for other in conditions[1:]]},
    )


def test_what_holds_for_all_lengths_is_no_branch() -> None:
    always = sympy.Le(sympy.Min(30, TOKENS), TOKENS, evaluate=False)
    check_guards(asked(always, sympy.Ne(TOKENS, 1)), None)
    check_guards(asked(always, sympy.Eq(TOKENS, sympy.Min(30, TOKENS))), 30)


@pytest.mark.parametrize(
    ("condition", "most", "length"),
    [
        (sympy.Eq(TOKENS, sympy.Min(30, TOKENS)), None, 31),
        (sympy.Eq(TOKENS, sympy.Min(2048, TOKENS)), 4096, 2049),
        (sympy.Ne(sympy.Mod(TOKENS, 64), 0), None, 64),
    ],
)
def test_a_branch_that_some_lengths_take_is_refused(condition: Any, most: int | None, length: int) -> None:
    with pytest.raises(CompileError, match=f"does something else for {length} tokens"):
        check_guards(asked(sympy.Ne(TOKENS, 1), condition), most)


def test_attention_that_leaves_tokens_out_limits_the_length() -> None:
    assert longest_sequence(GPT2Config(n_positions=77)) == 77
    chunked = Llama4TextConfig(max_position_embeddings=512, attention_chunk_size=128, num_hidden_layers=4)
    assert longest_sequence(chunked) == 128
