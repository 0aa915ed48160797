"""Opening artifacts: what is altered, cut short or foreign is refused by name; the best library is taken."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.ir.errors import ArtifactError, CapacityError
from ingot.runtime.engine.engine import Engine
from ingot.runtime.execution import artifact as artifact_module
from ingot.runtime.execution.artifact import open_artifact
from ingot.runtime.execution.mapped_arrays import MappedArrays
from ingot.runtime.execution.tvm_executor import TvmExecutor
from ingot.targets import (
    CPUS,
    Host,
    Manifest,
    detect_host,
    parse_target,
    read_manifest,
    supported_targets,
    write_manifest,
)
from ingot.targets import target as target_module
from ingot.targets.features import Withheld
from ingot.targets.manifest import AccuracyRecord, ArrayRecord, LibraryRecord

from ...compiled import WHOLE_GROUPS, compile_tiny
from ...tiny_models import make_tiny

TOKEN_IDS = np.random.default_rng(0).integers(0, 300, 70).tolist()
FITTING = [target.name for target in supported_targets(detect_host())]
if not FITTING:
    pytest.skip("this host has no instruction set that is built for", allow_module_level=True)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def made(parent: Path) -> Path:
    """An artifact that nobody changes, for the least target this host runs."""
    return compile_tiny("llama", parent, targets=[FITTING[-1]])


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy.ingot"))


def start(folder: Path) -> None:
    Engine(folder, kv_memory="1MiB").close()


def test_it_opens(made: Path) -> None:
    artifact = open_artifact(made)
    artifact.check()
    assert artifact.info.name == read_manifest(made).model.name
    assert (artifact.info.max_seq_len, artifact.info.eos_token_ids) == (128, frozenset({301}))
    start(made)


FILES = [
    "params/weights.bin",
    "tokenizer/tokenizer.json",
    "ir/paged.ir",
    f"lib/{parse_target(FITTING[-1]).library_name}",
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_an_altered_byte_is_found(copy: Path, file: str, where: str) -> None:
    path = copy / file
    content = bytearray(path.read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[where]] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{file} was altered after the artifact was made"):
        start(copy)


def test_an_altered_library_is_found_before_anything_is_loaded(copy: Path) -> None:
    (library,) = (copy / "lib").iterdir()
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 0x80
    library.write_bytes(content)
    with pytest.raises(ArtifactError, match="was altered"):
        open_artifact(copy)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: b"", lambda content: content + b"\0"],
    ids=["shorter", "empty", "longer"],
)
def test_another_size_is_found_at_once(copy: Path, file: str, damage: Callable[[bytes], bytes]) -> None:
    path = copy / file
    size = path.stat().st_size
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=rf"{file} has \d+ bytes where the manifest has {size}"):
        open_artifact(copy)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_found_at_once(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(ArtifactError, match=f"{file} cannot be read: No such file"):
        open_artifact(copy)


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Sequence[tuple[str | int, ...]]:
    """The places of all plain values in a JSON document."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [path]


def test_every_field_of_the_manifest_is_sealed(copy: Path) -> None:
    file = copy / "manifest.json"
    document = json.loads(file.read_text())
    places = [place for place in leaves(document) if place != ("schema",)]
    assert len(places) > 100
    kinds = {tuple("#" if isinstance(key, int) else key for key in place): place for place in places}
    for place in kinds.values():
        changed = json.loads(file.read_text())
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        match parent[place[-1]]:
            case bool(old):
                parent[place[-1]] = not old
            case int(old) | float(old):
                parent[place[-1]] = old + 1
            case str(old):
                parent[place[-1]] = old + "0"
            case None:
                parent[place[-1]] = {} if place == ("accuracy",) else 0.5
        altered = copy.with_name("altered")
        altered.mkdir(exist_ok=True)
        (altered / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(ArtifactError, match=r"was altered after it was written|is not a manifest"):
            read_manifest(altered)


@pytest.mark.parametrize("schema", [0, 2, 999])
def test_another_schema_is_refused_whatever_else_it_holds(copy: Path, schema: int) -> None:
    (copy / "manifest.json").write_text(json.dumps({"schema": schema, "from": "the future"}))
    with pytest.raises(ArtifactError, match=rf"has manifest schema {schema}, this ingot reads 1: compile"):
        open_artifact(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a manifest"),
        ("{", "is not a manifest"),
        ("[]", "is not a manifest"),
        ("{}", "is not a manifest: .*schema"),
        ('{"schema": "one"}', "is not a manifest"),
        ('{"schema": 1}', "is not a manifest: .*missing required field"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        open_artifact(tmp_path)


def test_an_unknown_field_is_refused(copy: Path) -> None:
    document = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**document, "surprise": 1}))
    with pytest.raises(ArtifactError, match="surprise"):
        open_artifact(copy)


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ArtifactError, match=r"is no artifact: manifest\.json cannot be read"):
            open_artifact(path)


def test_a_manifest_comes_back_as_it_was_written(made: Path, tmp_path: Path) -> None:
    manifest = read_manifest(made)
    accuracy = AccuracyRecord(312, 0.1, 0.2, 0.3, 0.99, 7.5, 7.25)
    changed = msgspec.structs.replace(manifest, accuracy=accuracy, notes=("ä note",))
    write_manifest(tmp_path, changed)
    found = read_manifest(tmp_path)
    assert msgspec.structs.replace(found, seal="") == msgspec.structs.replace(changed, seal="")
    assert found.seal != manifest.seal
    before = (tmp_path / "manifest.json").read_bytes()
    write_manifest(tmp_path, found)
    assert (tmp_path / "manifest.json").read_bytes() == before


# --- which library


def other_host(**changes: object) -> Host:
    return dataclasses.replace(detect_host(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "host",
    [
        other_host(features=frozenset()),
        other_host(machine="riscv64"),
        other_host(system="Haiku"),
    ],
    ids=["features", "machine", "system"],
)
def test_a_machine_that_cannot_run_it_is_refused(made: Path, host: Host) -> None:
    with pytest.raises(ArtifactError, match=f"is built for {FITTING[-1]}, and this machine .* can run none"):
        open_artifact(made).library(host)


def test_a_foreign_artifact_is_refused(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = "cpu:aarch64" if detect_host().machine == "x86_64" else "cpu:x86-64-v3"
    artifact = compile_tiny("llama", parent, targets=[foreign])
    with pytest.raises(ArtifactError, match=f"is built for {foreign}, and this machine"):
        start(artifact)


BEST_AND_LEAST = list(dict.fromkeys([FITTING[0], FITTING[-1]]))


@pytest.fixture(scope="module", params=["none", "int4"])
def for_all(request: pytest.FixtureRequest, parent: Path) -> Path:
    """One artifact for the best and the least that this host runs, and for a machine that it is not."""
    targets = ["cpu:aarch64", *reversed(BEST_AND_LEAST)]
    return compile_tiny("llama", parent, quant=request.param, targets=targets, **WHOLE_GROUPS)


def host_of(target: str) -> Host:
    """This host, were it no more than ``target`` needs."""
    return other_host(features=CPUS[target.removeprefix("cpu:")].features)


def test_the_best_library_that_fits_is_taken(for_all: Path) -> None:
    artifact = open_artifact(for_all)
    assert artifact.library().target == FITTING[0] == parse_target("cpu").name
    for name in BEST_AND_LEAST:
        assert artifact.library(host_of(name)).target == name
    arm = Host("Linux", "aarch64", "", CPUS["aarch64"].features, 4, 2**33)
    assert artifact.library(arm).target == "cpu:aarch64"


@given(st.frozensets(st.sampled_from(sorted({f for t in CPUS.values() for f in t.features}))), st.data())
def test_no_library_is_taken_that_needs_what_a_host_lacks(
    made: Path, features: frozenset[str], data: st.DataObject
) -> None:
    artifact = open_artifact(made)
    libraries = tuple(
        LibraryRecord(t.name, "lib", t.system, t.machine, tuple(sorted(t.features)), t.rank)
        for t in data.draw(st.lists(st.sampled_from(list(CPUS.values())), min_size=1, unique=True))
    )
    manifest = msgspec.structs.replace(artifact.manifest, libraries=libraries)
    host = other_host(features=features, machine=data.draw(st.sampled_from(["x86_64", "aarch64"])))
    fitting = [
        record for record in libraries if record.machine == host.machine and features >= set(record.features)
    ]
    if not fitting:
        with pytest.raises(ArtifactError, match="can run none of these"):
            dataclasses.replace(artifact, manifest=manifest).library(host)
    else:
        taken = dataclasses.replace(artifact, manifest=manifest).library(host)
        assert taken in fitting
        assert taken.rank == max(record.rank for record in fitting)


@pytest.mark.skipif(len(BEST_AND_LEAST) < 2, reason="this host runs one target only")
def test_the_log_says_which_library_is_taken_and_what_keeps_better_ones(
    for_all: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best, least = BEST_AND_LEAST
    lesser = host_of(least)
    missing = CPUS[best.removeprefix("cpu:")].features - lesser.features
    withheld = tuple(Withheld(feature, "not today") for feature in missing)
    with caplog.at_level(logging.INFO):
        open_artifact(for_all).library(dataclasses.replace(lesser, withheld=withheld))
    assert f"taking the library for {least}" in caplog.text
    assert f"not that for {best}, which needs {min(missing)}" in caplog.text
    assert "more (not today)" in caplog.text
    assert "aarch64" not in caplog.text


def test_all_targets_share_one_file_of_weights(for_all: Path, parent: Path) -> None:
    alone = compile_tiny(
        "llama", parent, quant=read_manifest(for_all).quant, targets=FITTING[-1:], **WHOLE_GROUPS
    )
    assert [path.name for path in (for_all / "params").iterdir()] == ["weights.bin"]
    assert (for_all / "params/weights.bin").read_bytes() == (alone / "params/weights.bin").read_bytes()


@pytest.mark.slow
def test_what_a_host_with_amx_compiles_runs_where_amx_is_refused(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spared = CPUS["x86-64-v4-bf16"]
    if not spared.runs_on(detect_host()):
        pytest.skip(f"this host does not run {spared.name}")
    checkpoint = make_tiny("llama", parent, **WHOLE_GROUPS)
    with monkeypatch.context() as context:
        features = CPUS["sapphirerapids"].features
        context.setattr(target_module, "detect_host", lambda: other_host(features=features))
        made = compile_model(checkpoint, tmp_path / "x.ingot", targets=["cpu"], quant="int4")
    assert [record.target for record in made.manifest.libraries] == ["cpu:sapphirerapids", spared.name]
    refused = tuple(Withheld(f, "not here") for f in features if f.startswith("amx_"))
    host = other_host(features=spared.features, withheld=refused)
    monkeypatch.setattr(artifact_module, "detect_host", lambda: host)
    with Engine(made.path, kv_memory="8MiB") as engine:
        assert np.isfinite(engine.score(TOKEN_IDS)).all()


@pytest.mark.skipif(len(BEST_AND_LEAST) < 2, reason="this host runs one target only")
def test_libraries_of_one_artifact_agree(for_all: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = []
    for name in BEST_AND_LEAST:
        monkeypatch.setattr(artifact_module, "detect_host", lambda name=name: host_of(name))
        assert open_artifact(for_all).library().target == name
        with Engine(for_all, kv_memory="8MiB") as engine:
            scores.append(engine.score(TOKEN_IDS))
    difference = np.abs(scores[0] - scores[1])
    if read_manifest(for_all).quant == "none":
        assert difference.max() <= 2e-5
    else:
        # Fewer lanes add a row's squares in another order, and what differs in its last bit may round apart.
        assert difference.max() <= 0.2
        assert np.median(difference) <= 0.01


# --- its options at run time


@pytest.mark.parametrize("page_size", [16, pytest.param(32, marks=pytest.mark.slow), 64])
def test_pages_of_every_size(parent: Path, made: Path, page_size: int) -> None:
    artifact = compile_tiny("llama", parent, page_size=page_size)
    with Engine(artifact, kv_memory="1MiB") as engine, Engine(made, kv_memory="1MiB") as other:
        assert engine.stats.num_pages * page_size <= 2**20 // (4 * 2 * 2 * 10 * 4)
        np.testing.assert_allclose(engine.score(TOKEN_IDS), other.score(TOKEN_IDS), rtol=0, atol=1e-4)


def test_the_longest_sequence_is_what_was_asked_for(parent: Path) -> None:
    artifact = compile_tiny("llama", parent, max_seq_len=40)
    with Engine(artifact, kv_memory="1MiB") as engine:
        assert engine.limits.max_seq_len == 40
        assert engine.score(TOKEN_IDS[:40]).shape == (40, 307)
        with pytest.raises(CapacityError, match="40"):
            engine.score(TOKEN_IDS[:41])


def test_memory_for_no_page_is_refused(made: Path) -> None:
    with pytest.raises(CapacityError, match=r"100 bytes hold no page of keys and values, which takes 10240"):
        TvmExecutor(open_artifact(made), kv_memory=100, max_num_seqs=1, max_num_batched_tokens=1)


def test_pages_beyond_use_are_not_taken(made: Path) -> None:
    executor = TvmExecutor(open_artifact(made), kv_memory=2**30, max_num_seqs=3, max_num_batched_tokens=8)
    assert (executor.num_pages, executor.page_size) == (3 * 128 // 16, 16)
    executor.close()


def test_arrays_are_mapped_where_the_manifest_says(made: Path) -> None:
    manifest: Manifest = read_manifest(made)
    arrays = MappedArrays(made)
    content = (made / "params/weights.bin").read_bytes()
    for record in (array for parameter in manifest.parameters for array in parameter.arrays):
        array = arrays[record]
        assert (array.shape, array.dtype.name) == (record.shape, record.dtype)
        assert array.ctypes.data % 64 == 0
        assert content[record.offset :].startswith(array.tobytes())
    for record in (
        ArrayRecord("params/weights.bin", len(content) - 4, (2,), "float32"),
        ArrayRecord("params/weights.bin", -4, (1,), "float32"),
    ):
        with pytest.raises(ArtifactError, match="ends before an array of its manifest does"):
            arrays[record]
