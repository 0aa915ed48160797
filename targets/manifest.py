"""The schema of an artifact's ``manifest.json``, the only thing that compiler and runtime share.

``schema`` is raised whenever a field changes its meaning; a reader refuses any other than its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from blake3 import blake3

from ..ir.errors import ArtifactError

__all__ = [
    "ENTRY",
    "SCHEMA",
    "AccuracyRecord",
    "ArrayRecord",
    "FileRecord",
    "InputRecord",
    "LibraryRecord",
    "Manifest",
    "MemoryPlan",
    "ModelRecord",
    "ParameterRecord",
    "PassRecord",
    "SourceRecord",
    "StateRecord",
    "Task",
    "VectorRecord",
    "read_manifest",
    "write_manifest",
]

ENTRY = "step"
"""The function of a library that runs one step. Its arguments are the inputs, the logits or vectors to be
written, the states, and the arrays of the parameters."""

Task: TypeAlias = Literal["generate", "embed", "rerank"]
"""What a model is for: text, the vector of a text, or how well two texts go together."""

SCHEMA = 1
"""The schema this version writes and reads."""


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frozen, and strict about what it does not know."""


class FileRecord(_Record, frozen=True):
    """A file of the artifact: its path inside, its size, and the BLAKE3 hash of its bytes."""

    path: str
    num_bytes: int
    blake3: str


class SourceRecord(_Record, frozen=True):
    """A file the artifact was made from: its name, size, and SHA-256."""

    name: str
    num_bytes: int
    sha256: str


class VectorRecord(_Record, frozen=True):
    """What a model that generates nothing gives for a sequence: ``width`` numbers.

    Those of a ``rerank`` model, one for each pair of texts, go through a sigmoid if ``is_probability``.
    ``prompts`` are texts to put before others by what these are for, ``default_prompt`` the name of the one
    to put unasked.
    """

    width: int
    is_probability: bool = False
    prompts: dict[str, str] = {}
    default_prompt: str | None = None


class ModelRecord(_Record, frozen=True, omit_defaults=True):
    """What the engine needs to know of the model; ``vectors`` where its task is not to generate."""

    name: str
    architecture: str
    vocab_size: int
    num_layers: int
    num_parameters: int
    max_seq_len: int
    eos_token_ids: tuple[int, ...]
    task: Task = "generate"
    vectors: VectorRecord | None = None


class ArrayRecord(_Record, frozen=True):
    """One stored array: where it lies in ``file``, its shape and numpy dtype (uint16 holds bfloat16)."""

    file: str
    offset: int
    shape: tuple[int, ...]
    dtype: str


class ParameterRecord(_Record, frozen=True):
    """A parameter of the step: its type in the IR, how it is laid out, and the arrays that store it."""

    name: str
    type: str
    layout: str
    arrays: tuple[ArrayRecord, ...]


class InputRecord(_Record, frozen=True):
    """An input of the step; dimensions are numbers or symbols."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class StateRecord(_Record, frozen=True):
    """An array the engine keeps between steps; ``pages`` in its shape is the size of the pool."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class LibraryRecord(_Record, frozen=True, omit_defaults=True):
    """Machine code for one target: what the host must be and have to run it.

    ``backend`` says what runs it: ``tvm``; ``cuda`` for a launch plan, whose GPU must be of the one
    architecture among ``features``, or later; ``metal`` for one that the GPU of a Mac with Apple silicon
    runs; or ``onnx`` for a graph that runs wherever ONNX Runtime is installed. But for ``tvm``, the host
    does not matter. ``tiling`` is how products are cut, by name, where that was measured when it was
    compiled.
    """

    target: str
    path: str
    system: str
    machine: str
    features: tuple[str, ...]
    rank: int
    backend: Literal["tvm", "cuda", "metal", "onnx"] = "tvm"
    tiling: dict[str, int] = {}


class MemoryPlan(_Record, frozen=True):
    """What running takes, in bytes: weights once, KV by the token, activations by the token of a step.

    Steps of up to ``max_step_tokens`` tokens can be run.
    """

    weight_bytes: int
    kv_bytes_per_token: int
    activation_bytes_per_token: int
    max_step_tokens: int
    page_size: int


class PassRecord(_Record, frozen=True):
    """One pass: whether it changed anything, and with ``--verify`` the largest difference it made to the
    logits.
    """

    name: str
    modified: bool
    largest_difference: float | None


class AccuracyRecord(_Record, frozen=True, omit_defaults=True):
    """Accuracy against the unquantized model in float32 over ``num_tokens``.

    That runs by ``reference``: ``transformers`` for ``ingot verify --record``, the ``interpreter`` where a
    text is given when compiling; then ``decode_tok_s`` is how fast a short answer was.
    """

    num_tokens: int
    kl_mean: float
    kl_max: float
    max_abs_diff: float
    top1_agreement: float
    perplexity: float
    reference_perplexity: float
    reference: Literal["transformers", "interpreter"] = "transformers"
    decode_tok_s: float | None = None


class Manifest(_Record, frozen=True):
    """An artifact: how it was made, what is in it, and what it takes to run.

    ``seal`` is the BLAKE3 hash of the manifest written with an empty seal, so that an altered field is
    noticed.
    """

    schema: int
    ingot: str
    toolchain: dict[str, str]
    model: ModelRecord
    dtype: str
    quant: str
    sources: tuple[SourceRecord, ...]
    passes: tuple[PassRecord, ...]
    inputs: tuple[InputRecord, ...]
    states: tuple[StateRecord, ...]
    parameters: tuple[ParameterRecord, ...]
    libraries: tuple[LibraryRecord, ...]
    memory: MemoryPlan
    files: tuple[FileRecord, ...]
    notes: tuple[str, ...] = ()
    accuracy: AccuracyRecord | None = None
    seal: str = ""


class _SchemaOnly(msgspec.Struct):
    """Just enough to say which schema a manifest has before its fields are believed."""

    schema: int


def read_manifest(folder: Path) -> Manifest:
    """The manifest in ``folder``; raises :class:`ArtifactError` where it is missing, malformed or of
    another schema.
    """
    path = folder / "manifest.json"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{folder} is no artifact: manifest.json cannot be read ({error.strerror})"
        ) from None
    try:
        schema = msgspec.json.decode(text, type=_SchemaOnly).schema
        if schema != SCHEMA:
            raise ArtifactError(
                f"{folder} has manifest schema {schema}, this ingot reads {SCHEMA}: compile the model again"
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{path} is not a manifest: {error}") from None
    if manifest.seal != _seal(manifest):
        raise ArtifactError(f"{path} was altered after it was written: compile the model again")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, whole or not at all; the same manifest gives the same bytes."""
    sealed = msgspec.structs.replace(manifest, seal=_seal(manifest))
    text = msgspec.json.format(msgspec.json.encode(sealed, order="sorted"), indent=2)
    staged = folder / ".manifest.json.new"
    try:
        staged.write_bytes(text + b"\n")
        staged.replace(folder / "manifest.json")
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise ArtifactError(f"{folder / 'manifest.json'} cannot be written: {error.strerror}") from None


def _seal(manifest: Manifest) -> str:
    unsealed = msgspec.structs.replace(manifest, seal="")
    return blake3(msgspec.json.encode(unsealed, order="sorted")).hexdigest()
