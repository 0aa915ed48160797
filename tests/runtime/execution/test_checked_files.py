"""What is known of files that were read before: as long as the file system says that they are the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from ingot.runtime.execution import checked_files
from ingot.runtime.execution.checked_files import CheckedFiles, stamp_of
from ingot.targets.manifest import FileRecord

CONTENT = b"weights" * 100


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in which small files and fresh ones are known as well."""
    monkeypatch.setenv("INGOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INGOT_CHECK", raising=False)
    monkeypatch.setattr(checked_files, "LEAST_BYTES", 0)
    monkeypatch.setattr(checked_files, "SETTLED_NS", -(10**12))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model.ingot"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT)
    return folder


RECORD = FileRecord("weights.bin", len(CONTENT), blake3(CONTENT).hexdigest())


def check(folder: Path) -> None:
    checked = CheckedFiles(folder)
    checked.add(RECORD, stamp_of(folder / RECORD.path))
    checked.save()


def test_what_was_found_right_is_known_to_the_next_start(folder: Path) -> None:
    assert not CheckedFiles(folder).knows(RECORD)
    check(folder)
    assert CheckedFiles(folder).knows(RECORD)
    other = FileRecord(RECORD.path, RECORD.num_bytes, blake3(b"").hexdigest())
    assert not CheckedFiles(folder).knows(other)
    assert not CheckedFiles(folder.parent).knows(RECORD)


def rewrite(path: Path) -> None:
    times = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had happened


def exchange(path: Path) -> None:
    times = path.stat()
    path.rename(path.with_suffix(".old"))
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [rewrite, exchange, Path.unlink])
def test_what_changed_since_is_not_known(folder: Path, change: Callable[[Path], None]) -> None:
    check(folder)
    change(folder / "weights.bin")
    assert not CheckedFiles(folder).knows(RECORD)


def test_what_changed_while_it_was_read_is_not_kept(folder: Path) -> None:
    checked, before = CheckedFiles(folder), stamp_of(folder / RECORD.path)
    rewrite(folder / "weights.bin")
    checked.add(RECORD, before)
    checked.save()
    assert not CheckedFiles(folder).knows(RECORD)


def test_a_file_that_changed_just_now_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked_files, "SETTLED_NS", 10**12)
    check(folder)
    assert not CheckedFiles(folder).knows(RECORD)


def test_who_asks_for_it_has_all_files_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(folder)
    monkeypatch.setenv("INGOT_CHECK", "always")
    assert not CheckedFiles(folder).knows(RECORD)


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b'{"weights.bin": 3}', b'{"weights.bin": ["x", [1, 2]]}', b"\xff"]
)
def test_a_damaged_cache_knows_nothing(folder: Path, cache: Path, damage: bytes) -> None:
    check(folder)
    (known,) = (cache / "checked").iterdir()
    known.write_bytes(damage)
    assert not CheckedFiles(folder).knows(RECORD)
    check(folder)
    assert CheckedFiles(folder).knows(RECORD)


def test_a_cache_that_cannot_be_written_is_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INGOT_CACHE", str(tmp_path / "file"))
    check(folder)
    assert not CheckedFiles(folder).knows(RECORD)
