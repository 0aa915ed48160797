"""What is refused of a traced model is named with its place in the model's source."""

from __future__ import annotations

from pathlib import Path

import pytest
from ingot.codegen import compile_model
from ingot.codegen.origins import Origins
from ingot.ir import Module, parse_module
from ingot.ir.errors import CompileError, VerificationError

ORIGINS = {"a": "aten.exp.default (layers.0, modeling_x.py:12)", "b": "aten.tanh.default (norm, x.py:3)"}


def module(*lines: str) -> Module:
    """A module of operations over ``%x`` that all give what it is."""
    operations = (line.replace(" =", ": float32[tokens, 4] =", 1) for line in lines)
    text = [
        *('module "small" stage plain', "prepare {", "return", "}"),
        *("forward", "inputs(%x: float32[tokens, 4])", "{", *operations, f"return {lines[-1].split()[0]}"),
    ]
    return parse_module("\n".join([*text, "}"]))


def explained(origins: Origins, message: str) -> str:
    with pytest.raises(CompileError) as caught, origins.naming():
        raise CompileError(message)
    return str(caught.value)


def test_what_a_message_names_is_placed() -> None:
    origins = Origins(module("%a = exp(%x)", "%b = tanh(%a)", "%c = exp(%b)"), ORIGINS)
    assert explained(origins, "no kernel (%a)") == f"no kernel (%a); %a comes from {ORIGINS['a']}"
    assert explained(origins, "no (%c)") == f"no (%c); %c comes from {ORIGINS['b']}"  # what it is made of
    assert explained(origins, "no kernel (%x)") == "no kernel (%x)"
    with pytest.raises(VerificationError, match=r"is not legal; %b comes from aten\.tanh"), origins.naming():
        raise VerificationError("tanh (of %b) is not legal")


def test_a_name_that_was_dropped_means_another_value_then() -> None:
    origins = Origins(module("%a = exp(%x)", "%b = tanh(%a)"), ORIGINS)
    origins.follow(module("%b = tanh(%x)"))
    origins.follow(module("%a = silu(%x)", "%b = tanh(%a)"))
    assert explained(origins, "no kernel (%a)") == "no kernel (%a)"


@pytest.mark.slow
def test_a_refused_traced_model_names_the_line(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from ..exactness.trying import make_checkpoint

    make_checkpoint("doge", tmp_path)
    place = r"aten\.\S+ \(model\.layers\.0\.self_attn, modeling_doge\.py:\d+\)"
    with pytest.raises(CompileError, match=rf"\(%(\d+)\) is part of no attention; %\1 comes from {place}"):
        compile_model(tmp_path, tmp_path / "x.ingot", frontend="export")
