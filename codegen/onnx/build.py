"""From a paged or a ragged module to ``model.onnx``, its weights beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import onnx

from ...ir import Array, Module, Value
from ...ir.errors import CompileError
from ...targets import onnx_files
from ...targets.manifest import ArrayRecord, FileRecord, LibraryRecord, ParameterRecord, StateRecord
from ..built import Built
from . import attention, caches, experts, pointwise, pooling, products, rearranging, recurrent
from .caches import arrays_of
from .genai import build_genai, genai_config
from .mixtures import instead_of_mixtures
from .pages import copied_pages, new_pages
from .step import OPSET, Rule, Step, tensor_info
from .weight_file import WeightFile

__all__ = ["RULES", "build_onnx"]

GENAI_MODEL = f"{onnx_files.FOLDER}/model.onnx"
WEIGHTS = "weights.bin"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **attention.RULES,
        **caches.RULES,
        **experts.RULES,
        **pointwise.RULES,
        **pooling.RULES,
        **products.RULES,
        **rearranging.RULES,
        **recurrent.RULES,
    }
)


def build_onnx(
    folder: Path,
    module: Module,
    compute: Callable[[str], Array],
    *,
    model_type: str,
    max_seq_len: int,
    eos: Sequence[int],
) -> Built:
    """Write the step of ``module`` into an artifact's ``folder``, and where it can be the form for GenAI.

    Args:
        folder: of the artifact, its tokenizer in it.
        module: a step over pages, or over whole sequences.
        compute: gives parameters by name.
        model_type: what the family is called in ``config.json``.
        max_seq_len: the longest sequence, in tokens.
        eos: the tokens that end an answer.

    Raises:
        CompileError: something cannot be said in ONNX; it is named.
    """
    if module.stage not in ("paged", "ragged"):
        raise CompileError(f"only paged and ragged modules become graphs, not one at stage {module.stage}")
    place = folder / onnx_files.FOLDER
    place.mkdir()
    with (place / WEIGHTS).open("wb") as stream:
        weights = WeightFile(stream, compute)
        states = [array for state in module.forward.states for array in arrays_of(state)]
        models = {onnx_files.STEP: _step(module, weights)}
        notes: tuple[str, ...] = ()
        if module.stage == "paged":
            models |= {onnx_files.NEW_PAGES: new_pages(states), onnx_files.COPIED_PAGES: copied_pages(states)}
            try:
                models[GENAI_MODEL] = build_genai(module, weights, RULES, WEIGHTS)
            except CompileError as error:
                notes = (f"no genai_config.json was written: {error}",)
    for name, model in models.items():
        onnx.save(model, folder / name)
        onnx.checker.check_model(str(folder / name))
    if GENAI_MODEL in models:
        config = genai_config(module, model_type=model_type, max_seq_len=max_seq_len, eos=eos)
        (place / "genai_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for file in sorted((folder / "tokenizer").iterdir()):
            shutil.copyfile(file, place / file.name)  # GenAI looks for them beside its configuration
    path = f"{onnx_files.FOLDER}/{WEIGHTS}"
    parameters = tuple(
        ParameterRecord(
            name,
            type_,
            kind,
            tuple(ArrayRecord(path, part.offset, part.shape, part.dtype.name) for part in parts),
        )
        for name, type_, kind, parts in weights
    )
    return Built(
        parameters,
        tuple(StateRecord(state.name, state.type.shape, state.type.scalar.value) for state in states),
        (LibraryRecord("onnx", onnx_files.STEP, "", "", (), 0, backend="onnx"),),
        FileRecord(path, weights.num_bytes, weights.hash.hexdigest()),
        {"onnx": onnx.__version__, "opset": str(OPSET)},
        notes,
    )


def _step(module: Module, weights: WeightFile) -> onnx.ModelProto:
    """The graph: the module's inputs and states in, logits or vectors and the states out."""
    graph = module.forward
    step = Step(graph, weights, RULES)
    for value in (*graph.inputs, *graph.states):
        step.alias(value, value.name)
    step.walk(instead_of_mixtures(step))
    first, *written = graph.outputs
    answer = "logits" if module.stage == "paged" else "vectors"
    step.rename(step.name(first), answer)
    states = [array for value in written for array in arrays_of(value, step.name(value))]
    outputs = [Value(answer, first.type), *states]
    inputs = (*graph.inputs, *(array for state in graph.states for array in arrays_of(state)))
    return step.model(
        module.name,
        [tensor_info(value.name, value.type) for value in inputs],
        [tensor_info(value.name, value.type) for value in outputs],
        WEIGHTS,
    )
