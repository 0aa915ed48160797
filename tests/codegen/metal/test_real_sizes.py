"""Models as large as those that are published: their shaders are within Metal's limits, and its language.

Sizes are the defaults of the classes in transformers; there are no weights, and clang alone reads what comes.
"""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from ingot.codegen.gpu.kernel import source_of
from ingot.codegen.gpu.lower import plan_step
from ingot.codegen.metal.machine import METAL
from ingot.frontend.models import Family
from ingot.frontend.models.builder import ModelBuilder
from ingot.frontend.registry import find_family
from ingot.ir import ScalarType, TensorType
from ingot.ir.errors import ConfigError
from ingot.passes import PipelineOptions, build_pipeline
from ingot.passes.assignment import find_assignment

from ...tiny_models import ARCHITECTURES, tiny_config
from .lint import lint
from .strict_clang import has_clang, problems

pytestmark = pytest.mark.slow

QUANTIZED = ("llama", "gpt_oss", "deepseek_v3", "qwen3_next", "mixtral")


@pytest.mark.parametrize(
    ("architecture", "quant"),
    [*((name, None) for name in ARCHITECTURES), *((name, "int4") for name in QUANTIZED)],
)
def test_shaders_of_real_sizes(architecture: str, quant: str | None) -> None:
    from transformers import AutoConfig

    tiny = tiny_config(architecture)
    real = AutoConfig.for_model(tiny["model_type"]).to_dict()
    fields = {**real, "architectures": tiny["architectures"]}
    family = find_family(fields)
    assert isinstance(family, Family)
    try:
        sizes = family.from_hf(fields)
    except ConfigError as error:  # of few are defaults a model
        pytest.skip(str(error))
    builder = ModelBuilder(lambda name, shape: TensorType(shape, ScalarType.BFLOAT16))
    module = family.build(builder, sizes, architecture)
    assignment = None if quant is None else find_assignment(quant)
    for each in build_pipeline(PipelineOptions(max_seq_len=4096, assignment=assignment)):
        module = each.run(module).module
    _, functions = plan_step(module, METAL)
    text = source_of(functions, METAL)  # which refuses what is beyond limits
    assert lint(text) == []
    assert not has_clang or problems(text) == []
