"""What this machine can do at most, measured by the probes that an artifact's library carries.

The probes use the instructions of the model's own kernels, on the same threads (see
:mod:`ingot.codegen.kernels.probe`). Each is repeated, and the best time counts: what else runs here only
makes it longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...targets import detect_host
from ...targets.threads import use_all_cores
from ..execution.artifact import Artifact
from ..execution.memory import empty_pages
from ..execution.tvm_library import copied, load_library, shared
from .records import HostRecord

__all__ = ["measure_host"]

READ_BYTES = 1 << 29
"""Memory to read: many times what caches hold."""

_SECONDS = 0.8
"""How long each probe is repeated."""

_WEIGHT_BYTES, _ROW_BYTES, _SUMS = 1 << 14, 64, 16
"""The shapes of the probes' arguments."""


@dataclass(frozen=True, slots=True)
class _Products:
    """A probe of products.

    Attributes:
        name: in a library.
        weight: numpy's type of its weights.
        activation: that of its activations.
        total: that of its sums.
        num_products: of a weight and an element of a row, in a round.
        num_rows: of activations.
        num_rounds: in a call.
    """

    name: str
    weight: type
    activation: type
    total: type
    num_products: int = 1
    num_rows: int = 12
    num_rounds: int = 500


_INT8 = (
    _Products("probe_int8_tiles", np.int8, np.int8, np.int32, num_products=64, num_rows=64, num_rounds=2),
    _Products("probe_int8", np.uint8, np.int8, np.int32),
)
_BFLOAT16 = (
    # Rows and weights of single bytes are pairs of halves of a number: half as many products.
    _Products(
        "probe_bfloat16_tiles", np.int8, np.int8, np.float32, num_products=32, num_rows=64, num_rounds=2
    ),
    _Products("probe_bfloat16", np.int32, np.int32, np.float32, num_products=2),
)
_FLOAT32 = (_Products("probe_float32", np.float32, np.float32, np.float32),)


def measure_host(
    artifact: Artifact, *, seconds: float = _SECONDS, read_bytes: int = READ_BYTES
) -> HostRecord:
    """Measure this machine with an artifact's library, for about ``seconds`` with each of its probes.

    A graph carries no probes, so that nothing is measured where one runs. Raises :class:`ArtifactError` where
    the artifact has no library for this machine.
    """
    threads = use_all_cores()
    if artifact.library(device="cpu").backend == "onnx":
        return HostRecord(detect_host().cpu, threads, None, None, None, None)
    probes = _Probes(artifact, threads, seconds)
    return HostRecord(
        cpu=detect_host().cpu,
        threads=threads,
        read_gb_s=probes.read_rate(read_bytes),
        int8_tops=probes.product_rate(_INT8),
        bf16_tflops=probes.product_rate(_BFLOAT16),
        float32_tflops=probes.product_rate(_FLOAT32),
    )


class _Probes:
    """The probes of one library."""

    def __init__(self, artifact: Artifact, threads: int, seconds: float) -> None:
        self._library = load_library(artifact.folder / artifact.library(device="cpu").path)
        self._threads = threads
        self._seconds = seconds

    def read_rate(self, num_bytes: int) -> float | None:
        """10**9 bytes a second; None where the library does not have the probe."""
        if not self._has("probe_read"):
            return None
        granule = self._threads * 512
        num_bytes = -(-num_bytes // granule) * granule
        # As weights lie: in huge pages, where the system has them.
        words = empty_pages((num_bytes // 4,), np.dtype(np.int32))
        # Written, because pages never written are all the same one; and no two alike, lest they be merged.
        words[:] = np.arange(len(words), dtype=np.int32)
        memory = shared(words.reshape(self._threads, -1))
        return num_bytes / self._best_time("probe_read", memory, self._sums(np.int32)) / 1e9

    def product_rate(self, probes: Sequence[_Products]) -> float | None:
        """10**12 operations a second, two a product, by the first probe there is; None: there is none."""
        probe = next((probe for probe in probes if self._has(probe.name)), None)
        if probe is None:
            return None
        num_weights = _WEIGHT_BYTES // np.dtype(probe.weight).itemsize
        width = _ROW_BYTES // np.dtype(probe.activation).itemsize
        arguments = (
            self._tensor(np.ones(num_weights, probe.weight)),
            self._tensor(np.ones((probe.num_rows, width), probe.activation)),
            self._tensor(np.array([probe.num_rounds], np.int32)),
            self._sums(probe.total),
        )
        operations = 2 * probe.num_products * num_weights * probe.num_rows * probe.num_rounds * self._threads
        return operations / self._best_time(probe.name, *arguments) / 1e12

    def _has(self, name: str) -> bool:
        return bool(self._library.implements_function(name, True))

    def _tensor(self, array: npt.NDArray[np.generic]) -> object:
        return copied(array)

    def _sums(self, dtype: type) -> object:
        return self._tensor(np.zeros((self._threads, _SUMS), dtype))

    def _best_time(self, name: str, *arguments: object) -> float:
        probe: Callable[..., None] = self._library.get_function(name, True)
        best, ends = float("inf"), time.perf_counter() + self._seconds
        started = time.perf_counter()
        while started < ends or best == float("inf"):
            probe(*arguments)
            ended = time.perf_counter()
            best = min(best, ended - started)
            started = ended
        return best
