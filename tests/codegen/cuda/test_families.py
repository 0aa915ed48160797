"""What every family of models does on GPUs: built, or refused by which sentence. Nothing is compiled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from ingot.codegen.cuda.machine import CUDA
from ingot.codegen.gpu.lower import plan_step
from ingot.codegen.metal.machine import METAL
from ingot.frontend.configs import VectorConfig
from ingot.frontend.models import Family
from ingot.frontend.models.builder import ModelBuilder
from ingot.frontend.models.vectors import build_vectors
from ingot.frontend.registry import find_encoder, find_family, registered_families
from ingot.ir import Module, ScalarType, TensorType
from ingot.ir.errors import CompileError
from ingot.passes import PipelineOptions, build_pipeline

from ...tiny_models import ARCHITECTURES, tiny_config
from ...vector_models import ENCODERS, tiny_encoder_config

GOLDEN = Path(__file__).with_name("families.txt")


def builder() -> ModelBuilder:
    return ModelBuilder(lambda name, shape: TensorType(shape, ScalarType.FLOAT32))


def outcome(module: Module, *, generates: bool) -> str:
    for each in build_pipeline(PipelineOptions(max_seq_len=64, generates=generates)):
        module = each.run(module).module  # which others verify
    found = []
    for machine in (CUDA, METAL):
        try:
            for function in plan_step(module, machine)[1]:
                machine.write_kernel(function)  # within the machine's limits
            found.append(f"built for {machine}")
        except CompileError as error:
            found.append(re.sub(r" \(%\S+\)", "", str(error)))
    return ", ".join(found)


def outcomes() -> Iterator[tuple[str, str]]:
    for architecture in ARCHITECTURES:
        fields = tiny_config(architecture)
        family = find_family(fields)
        assert isinstance(family, Family)
        config = family.from_hf(fields)
        yield architecture, outcome(family.build(builder(), config, architecture), generates=True)
    vectors = VectorConfig(task="embed", pooling="mean", layers=())
    for name, fields in [
        *((name, tiny_encoder_config(name)) for name in ENCODERS),
        *((name, tiny_config(name)) for name in ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")),
    ]:
        family, graph = find_encoder(fields), builder()
        assert family.encode is not None
        states = family.encode(graph, family.from_hf(fields))
        module = build_vectors(graph, states, vectors, name)
        yield f"{name}, vectors", outcome(module, generates=False)


def test_every_family_is_built_or_refused_by_name(update_golden: bool) -> None:
    assert {family.model_type for family in registered_families()} == {*ARCHITECTURES, *ENCODERS}
    found = "".join(f"{name}: {result}\n" for name, result in outcomes())
    if update_golden:
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()
