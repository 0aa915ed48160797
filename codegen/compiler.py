"""From a model to an artifact: frontend, passes, machine code, parameters, manifest."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..frontend import EncoderConfig, Model, VectorConfig, hash_files, load_model
from ..ir import Module, QuantFormat, ScalarType, print_module
from ..ir.errors import CompileError
from ..passes import CacheType, InterpreterChecker, PipelineOptions, build_pipeline, run_passes
from ..passes import PassRecord as PassRun
from ..targets import Manifest, read_manifest, write_manifest
from ..targets.manifest import (
    SCHEMA,
    InputRecord,
    ModelRecord,
    PassRecord,
    SourceRecord,
    VectorRecord,
)
from .apart import Option, compile_apart
from .artifact_writer import hash_tree, staged_folder, write_tokenizer
from .options import CompileOptions
from .origins import Origins
from .progress import CompileProgress, SilentProgress
from .quantize_options import CALIBRATION_TOKENS, QuantizeOptions
from .tvm_compiler import prepare_compiler

if TYPE_CHECKING:  # TVM is behind it
    from .preparing import Tensors

__all__ = ["CompiledArtifact", "compile_model", "most_memory_held"]


@dataclass(frozen=True, slots=True)
class CompiledArtifact:
    """An artifact that was just made; where a path is expected it stands for its folder."""

    path: Path
    num_bytes: int
    seconds: float
    peak_memory_bytes: int
    manifest: Manifest

    def __fspath__(self) -> str:
        return str(self.path)


def compile_model(
    source: str | Path,
    output: str | Path | None = None,
    *,
    targets: Sequence[str] = ("cpu",),
    quant: str = "none",
    topology: str | Path | None = None,
    calibrate: str | Path | None = None,
    method: str | None = None,
    calibration_tokens: int = CALIBRATION_TOKENS,
    work_dir: str | Path | None = None,
    size: str | int | None = None,
    kl: float | None = None,
    write_topology: str | Path | None = None,
    dtype: str = "auto",
    backend: str = "tvm",
    frontend: str = "auto",
    max_seq_len: int | None = None,
    page_size: int | None = None,
    kv_cache: str = "auto",
    verify: bool = False,
    dump_ir: Path | None = None,
    tune: float | None = None,
    force: bool = False,
    progress: CompileProgress | None = None,
) -> CompiledArtifact:
    """Compile a model into an artifact folder.

    Where this process has loaded TVM's runtime for an engine, another process does it.

    Args:
        source: a Hugging Face folder, a GGUF file or a hub id.
        output: the folder to make; ``NAME.ingot`` here unless given.
        targets: what to build machine code for, as :func:`ingot.targets.parse_target` reads it.
        quant: a scheme of :data:`ingot.passes.SCHEMES`, a format for all weights, or ``none``.
        topology: a file that says which weights are kept in which format (:mod:`ingot.passes.topology`); of
            what it says nothing, ``quant`` does.
        calibrate: a text that weights are quantized for.
        method: how they are, one of :data:`ingot.passes.calibration.METHODS`; ``gptq`` unless given where
            there is a text, ``rtn`` where there is none.
        calibration_tokens: how much of the text is read at most.
        work_dir: where a calibration keeps what it found, so that one that was interrupted goes on there;
            unless given, a folder beside ``output``, which is gone when that is written.
        size: with ``quant="auto"``, what all weights take at most, as ``"2.5GiB"`` or in bytes; the formats
            of least divergence are chosen, by measuring what each weight is worth on the text to calibrate
            on, or on a few paragraphs of several kinds.
        kl: with ``quant="auto"``, the divergence in nats that is borne; the smallest formats are chosen.
        write_topology: a file that the choice is written to, as ``topology`` reads it.
        dtype: of unquantized weights; ``auto`` keeps the checkpoint's, and computes in float32, ``bfloat16``
            rounds the activations that meet them as well.
        backend: ``tvm``, machine code for each target; or ``onnx``, a graph that ONNX Runtime runs wherever
            it is installed, which has no targets.
        frontend: ``native`` takes only families that are defined here, ``export`` traces what transformers
            builds, ``auto`` traces where no family is defined.
        max_seq_len: the longest sequence in tokens; what the model was made for unless given. A model that
            gives vectors computes each sequence in one step, so this is also what its steps can hold.
        page_size: tokens a page of the KV cache holds, a power of two from 16 to 1024; 16 unless given, or
            more where layers keep a state that is large beside their keys and values.
        kv_cache: ``float32``, ``float16``, ``bfloat16``, ``int8`` or ``int4``, the last two in groups with
            scales; ``auto`` is float32 where weights are float32, otherwise float16.
        verify: run the reference interpreter around each pass and record the largest difference.
        dump_ir: a folder to write the module after each pass to.
        tune: seconds for finding out, on this machine, how products of whole rows are best cut; the artifact
            keeps what was found, and one that is replaced hands on what it kept, so that the same bytes come.
        force: replace ``output`` if it is an artifact.
        progress: told of each stage.

    Raises:
        ModelError: the model cannot be taken in.
        CompileError: it cannot be built as asked; nothing is written then.
    """
    started = time.perf_counter()
    options = CompileOptions.parse(
        targets=targets,
        quantizing=QuantizeOptions.parse(
            quant=quant,
            topology=_path(topology),
            calibrate=_path(calibrate),
            method=method,
            calibration_tokens=calibration_tokens,
            work_dir=_path(work_dir),
            size=size,
            kl=kl,
            write_topology=_path(write_topology),
        ),
        dtype=dtype,
        backend=backend,
        max_seq_len=max_seq_len,
        page_size=page_size,
        kv_cache=kv_cache,
        verify=verify,
        dump_ir=dump_ir,
        tune=tune,
    )
    from .building import check_tools

    check_tools(options.targets if options.backend == "tvm" else ())
    watcher = progress or SilentProgress()
    watcher.stage("Reading the model", None)
    model = load_model(source, frontend=frontend)
    _check_length(model, options)
    _check_formats(model, options)
    path = Path(output) if output is not None else Path(f"{model.name}.ingot")
    if not prepare_compiler():
        again: dict[str, Option] = {
            "targets": [target.name for target in options.targets],
            "quant": quant,
            "topology": _text(topology),
            "calibrate": _text(calibrate),
            "method": method,
            "calibration_tokens": calibration_tokens,
            "work_dir": _text(work_dir),
            "size": size,
            "kl": kl,
            "write_topology": _text(write_topology),
            "dtype": dtype,
            "backend": backend,
            "frontend": frontend,
            "max_seq_len": max_seq_len,
            "page_size": page_size,
            "kv_cache": kv_cache,
            "verify": verify,
            "dump_ir": None if dump_ir is None else str(dump_ir),
            "tune": tune,
            "force": force,
        }
        report = compile_apart(str(source), path.absolute(), again)
        return CompiledArtifact(
            path, report.num_bytes, report.seconds, report.peak_memory_bytes, read_manifest(path)
        )
    with staged_folder(path, force=force) as folder:
        work_dir = options.quantizing.work_dir or path.with_name(f"{path.name}.calibration")
        tunings = {} if options.tune_seconds is None else _kept_tunings(path)
        manifest = _write_artifact(folder, model, options, work_dir, watcher, tunings)
        write_manifest(folder, manifest)
    return CompiledArtifact(
        path=path,
        num_bytes=sum(file.num_bytes for file in manifest.files) + (path / "manifest.json").stat().st_size,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=most_memory_held(),
        manifest=manifest,
    )


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _text(given: str | Path | None) -> str | None:
    """A path for another process."""
    return None if given is None else str(Path(given).absolute())


def _write_artifact(
    folder: Path,
    model: Model,
    options: CompileOptions,
    work_dir: Path,
    progress: CompileProgress,
    tunings: Mapping[str, Mapping[str, int]],
) -> Manifest:
    """Everything but the manifest, which is returned."""
    write_tokenizer(model, folder)
    provenance = model.provenance_later()
    pipeline = _pipeline_options(model, options)
    quantizing, work = options.quantizing, None
    if quantizing.budget is not None:
        from .choosing import choose_formats

        topology, text = choose_formats(
            model,
            pipeline,
            quantizing.budget,
            text=quantizing.calibrate,
            tokenizer=folder / "tokenizer",
            progress=progress,
        )
        if quantizing.write_topology is not None:
            quantizing.write_topology.write_text(text, encoding="utf-8")
        quantizing = replace(quantizing, assignment=topology)
        pipeline = replace(pipeline, assignment=topology)
    tensors: Tensors = model.weights
    if quantizing.method != "rtn":
        from .calibrating import CalibratedWeights, calibrate_model

        work = calibrate_model(
            model, quantizing, pipeline, tokenizer=folder / "tokenizer", folder=work_dir, progress=progress
        )
        tensors = CalibratedWeights(model.weights, work)
        pipeline = replace(pipeline, calibrated=work.types)
    checker = _checker(model, tensors, pipeline.max_seq_len) if options.verify else None
    origins = Origins(model.module, model.origins)
    with origins.naming():
        module, runs = _run_pipeline(model, options, pipeline, folder, checker, progress, origins)

    # TVM is behind these, and what is refused above is refused before it is loaded.
    from .building import build_for_targets, build_with_onnx
    from .memory_plan import plan_memory

    step_tokens = _step_tokens(model, options)
    if options.backend == "onnx":
        built = build_with_onnx(
            folder,
            module,
            tensors,
            model,
            max_seq_len=_sequence_length(model, options),
            origins=origins,
            progress=progress,
        )
    else:
        built = build_for_targets(
            folder,
            module,
            tensors,
            options.targets,
            max_step_tokens=step_tokens,
            origins=origins,
            progress=progress,
            tune_seconds=options.tune_seconds,
            tunings=tunings,
        )
    if work is not None and quantizing.work_dir is None:
        work.remove()

    progress.stage("Hashing", None)
    weight_bytes = built.weights.num_bytes
    return Manifest(
        schema=SCHEMA,
        ingot=version("ingot"),
        toolchain=dict(built.toolchain),
        model=ModelRecord(
            name=model.name,
            architecture=model.config.model_type,
            vocab_size=model.config.vocab_size,
            num_layers=model.config.num_layers,
            num_parameters=_num_parameters(model),
            max_seq_len=_sequence_length(model, options),
            eos_token_ids=model.config.eos_token_ids,
            task="generate" if model.vectors is None else model.vectors.task,
            vectors=None if model.vectors is None else _vector_record(model.vectors, module),
        ),
        dtype=options.dtype,
        quant=quantizing.name,
        sources=tuple(
            SourceRecord(f.name, f.num_bytes, f.sha256)
            for f in (*provenance.result(), *hash_files(quantizing.texts))
        ),
        passes=tuple(PassRecord(run.name, run.modified, run.largest_difference) for run in runs),
        inputs=tuple(InputRecord(v.name, v.type.shape, v.type.scalar.value) for v in module.forward.inputs),
        states=built.states,
        parameters=built.parameters,
        libraries=built.libraries,
        memory=plan_memory(module.forward, weight_bytes=weight_bytes, max_step_tokens=step_tokens),
        files=hash_tree(folder, built.weights),
        notes=(*quantizing.notes, *(note for run in runs for note in run.notes), *built.notes),
    )


def _kept_tunings(path: Path) -> dict[str, dict[str, int]]:
    """How the artifact that is to be replaced cut its products, by target."""
    if not (path / "manifest.json").is_file():
        return {}
    return {library.target: library.tiling for library in read_manifest(path).libraries if library.tiling}


def _sequence_length(model: Model, options: CompileOptions) -> int:
    return options.max_seq_len or model.max_seq_len


def _check_length(model: Model, options: CompileOptions) -> None:
    """Raise :class:`CompileError` for sequences longer than a table of learned positions."""
    if model.vectors is None:
        return
    length, longest = _sequence_length(model, options), model.config.max_position_embeddings
    if isinstance(model.config, EncoderConfig) and length > longest:
        raise CompileError(
            f"max_seq_len is {length}, but {model.name} has learned {longest} positions and no others"
        )


def _check_formats(model: Model, options: CompileOptions) -> None:
    """Raise :class:`CompileError` where all weights of a model that comes quantized shall be again.

    A topology is another thing: it names weights, and those that are quantized cannot be among them.
    """
    elements = (value.type.element for value in model.module.forward.parameters)
    formats = dict.fromkeys(element.name for element in elements if isinstance(element, QuantFormat))
    if formats and options.quantizing.assignment is not None and options.quantizing.name != "topology":
        raise CompileError(
            f"the weights of {model.name} come quantized ({', '.join(formats)}) and are kept as they are, "
            "not rounded again: leave quant away; a topology can quantize those of its weights that are not"
        )


def _step_tokens(model: Model, options: CompileOptions) -> int:
    """The most tokens of a step; a model without a cache takes each sequence whole."""
    from .lowering import MAX_STEP_TOKENS

    if model.vectors is None:
        return MAX_STEP_TOKENS
    return max(MAX_STEP_TOKENS, _sequence_length(model, options))


def _vector_record(vectors: VectorConfig, module: Module) -> VectorRecord:
    (output,) = module.forward.outputs
    return VectorRecord(
        width=int(output.type.shape[1]),
        is_probability=vectors.is_probability,
        prompts=dict(vectors.prompts),
        default_prompt=vectors.default_prompt,
    )


def _kv_cache(model: Model, options: CompileOptions) -> CacheType:
    """As asked for; or float32 where matrices are, so that nothing is rounded that was not; else float16.

    So it is where a checkpoint holds quantized ones, whose small matrices may be float32.
    """
    if options.kv_cache is not None:
        return options.kv_cache
    matrices = {value.type.element for value in model.module.forward.parameters if value.type.rank == 2}
    if any(isinstance(element, QuantFormat) for element in matrices):
        return CacheType.FLOAT16
    kinds = {options.weight_type} if options.weight_type is not None else matrices
    return CacheType.FLOAT32 if ScalarType.FLOAT32 in kinds else CacheType.FLOAT16


def _pipeline_options(model: Model, options: CompileOptions) -> PipelineOptions:
    return PipelineOptions(
        max_seq_len=_sequence_length(model, options),
        assignment=options.quantizing.assignment,
        dtype=options.weight_type,
        page_size=options.page_size,
        kv_cache=_kv_cache(model, options),
        generates=model.vectors is None,
    )


def _run_pipeline(
    model: Model,
    options: CompileOptions,
    pipeline: PipelineOptions,
    folder: Path,
    checker: InterpreterChecker | None,
    progress: CompileProgress,
    origins: Origins,
) -> tuple[Module, tuple[PassRun, ...]]:
    """Run the passes; the module after each stage goes into the artifact, after each pass to ``dump_ir``."""
    dump_ir, passes = options.dump_ir, build_pipeline(pipeline)
    stages: dict[str, Module] = {}

    def keep(label: str, module: Module) -> None:
        stages[module.stage] = module
        origins.follow(module)
        if dump_ir is not None:
            dump_ir.mkdir(parents=True, exist_ok=True)
            (dump_ir / f"{label}.ir").write_text(print_module(module))
        progress.advance()

    progress.stage("Running passes", len(passes) + 1)
    result = run_passes(model.module, passes, check=checker, dump=keep)
    (folder / "ir").mkdir()
    for stage, module in stages.items():
        (folder / "ir" / f"{stage}.ir").write_text(print_module(module))
    return result.module, result.records


def _checker(model: Model, tensors: Tensors, max_seq_len: int) -> InterpreterChecker:
    """The interpreter's check, over sequences that the compiled model can hold."""
    num_tokens = min(24, max_seq_len)
    return InterpreterChecker(tensors.read, vocab_size=model.config.vocab_size, num_tokens=num_tokens)


def _num_parameters(model: Model) -> int:
    """Elements of the tensors the graph uses; a tied head is counted once."""
    total = 0
    for value in model.module.forward.parameters:
        if value.type.element is ScalarType.INT32:  # the order of columns, which the checkpoint adds
            continue
        count = 1
        for dim in value.type.shape:
            count *= int(dim)
        total += count
    return total


def most_memory_held() -> int:
    """The most memory this process has held at once, in bytes, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
