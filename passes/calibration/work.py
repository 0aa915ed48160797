"""The folder that a calibration keeps its results in, so that an interrupted one goes on where it was.

::

    progress.json   what it is about, how many layers are done, and what was found
    arrays/         an array a file
    states/N/M.npz  what the layers before the N-th leave of the M-th sequence
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ...ir import Array, QuantizedArray, TensorType, find_format
from ...ir.errors import CompileError
from ...ir.types import ScalarType, parse_element

__all__ = ["WorkFolder"]

_MARK = "progress.json"


class WorkFolder:
    """Results of layers, and states between them.

    Raises :class:`CompileError` where ``path`` is a folder of something else.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        mark = path / _MARK
        progress: dict[str, Any] = {}
        if mark.is_file():
            try:
                progress = json.loads(mark.read_text())
            except ValueError:
                progress = {}
        elif path.exists() and any(path.iterdir()):
            raise CompileError(f"{path} is no folder of a calibration, and not empty: choose another")
        if progress.get("key") != key:
            self._clear()
            progress = {"key": key, "layers": 0, "arrays": {}}
        self._progress = progress
        (path / "arrays").mkdir(parents=True, exist_ok=True)

    @property
    def num_layers_done(self) -> int:
        """How many layers need not be computed again."""
        return int(self._progress["layers"])

    @property
    def types(self) -> Mapping[str, TensorType]:
        """The types of what was found, by name."""
        return {
            name: TensorType(tuple(entry["shape"]), parse_element(entry["element"]))
            for name, entry in self._progress["arrays"].items()
        }

    def read(self, name: str) -> Array:
        """An array that was found, mapped."""
        entry = self._progress["arrays"][name]
        parts = {part: self._load(file, dtype) for part, (file, dtype) in entry["parts"].items()}
        if "values" in parts:
            return parts["values"]
        return QuantizedArray(find_format(entry["element"]), **parts)

    def keep(self, found: Mapping[str, Array], states: list[Mapping[str, Array]]) -> None:
        """Write what a layer gave: it is done when this returns, and not before."""
        number = self.num_layers_done + 1
        folder = self.path / "states" / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for index, state in enumerate(states):
            np.savez(folder / f"{index}.npz", **{k: np.asarray(v) for k, v in state.items()})  # type: ignore[arg-type]
        entries = dict(self._progress["arrays"])
        for name, array in found.items():
            entries[name] = self._write(len(entries), array)
        self._progress = {**self._progress, "layers": number, "arrays": entries}
        staged = self.path / f".{_MARK}"
        staged.write_text(json.dumps(self._progress))
        staged.replace(self.path / _MARK)
        shutil.rmtree(self.path / "states" / str(number - 1), ignore_errors=True)

    def state(self, index: int) -> dict[str, Array]:
        """What the layers that are done leave of a sequence."""
        if not self.num_layers_done:
            return {}
        with np.load(self.path / "states" / str(self.num_layers_done) / f"{index}.npz") as file:
            return {name: file[name] for name in file.files}

    def remove(self) -> None:
        """Remove the folder."""
        self._clear()
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def _clear(self) -> None:
        for part in ("arrays", "states"):
            shutil.rmtree(self.path / part, ignore_errors=True)
        (self.path / _MARK).unlink(missing_ok=True)

    def _write(self, number: int, array: Array) -> dict[str, object]:
        quantized = isinstance(array, QuantizedArray)
        parts = array.components if isinstance(array, QuantizedArray) else {"values": array}
        files = {}
        for part, values in parts.items():
            file = f"{number}.{part}.npy"
            dtype = values.dtype.name
            plain = values.view(f"u{values.dtype.itemsize}") if values.dtype.kind == "V" else values
            np.save(self.path / "arrays" / file, np.ascontiguousarray(plain))
            files[part] = (file, dtype)
        element = array.format.name if isinstance(array, QuantizedArray) else ScalarType.of(array).value
        assert quantized or len(parts) == 1
        return {"element": element, "shape": list(array.shape), "parts": files}

    def _load(self, file: str, dtype: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.load(self.path / "arrays" / file, mmap_mode="r")
        return array.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else array
