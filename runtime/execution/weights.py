"""A model's weights as kernels take them: mapped from their file, and moved where that is slow to read.

A file that was read or written in large pieces lies in huge pages of the system's cache, and is mapped by
them: nothing is copied, and processes share it. One that came some other way, or a system whose cache has no
such pages, leaves it in pages of 4 KiB. Then the weights are copied to memory of their own, while the first
answers are being computed, if there is enough of it.
"""

from __future__ import annotations

import logging
import os
import sys
from threading import Thread, get_native_id

from ...targets import Manifest, detect_host
from ...targets.manifest import ArrayRecord
from .mapped_arrays import MappedArrays
from .memory import Bytes, are_huge, empty_pages, give_back, populate
from .memory_plan import PlannedMemory
from .tvm_library import shared

__all__ = ["Weights"]

_LOG = logging.getLogger(__name__)

_IDLE = 19
"""The least of priorities: steps are not to wait."""


class Weights:
    """The parameters of a manifest, in its order.

    Attributes:
        tensors: what kernels take; each may be replaced by its copy at any time.
    """

    def __init__(self, arrays: MappedArrays, manifest: Manifest, plan: PlannedMemory) -> None:
        """Map ``manifest``'s parameters; ``plan`` says whether there is memory for a copy."""
        self._arrays = arrays
        self._records = [array for parameter in manifest.parameters for array in parameter.arrays]
        self._has_room = plan.total_bytes + plan.weight_bytes <= plan.available_bytes
        self.tensors: list[object] = [shared(arrays[record]) for record in self._records]
        self._thread = Thread(target=self._settle, name="weights", daemon=True)
        self._is_closed = False

    def settle(self) -> None:
        """Begin to move what is slow to read, if there is such; called again, nothing happens."""
        if self._thread.ident is None and not self._is_closed:
            self._thread.start()

    @property
    def is_settling(self) -> bool:
        """Whether something is being moved."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Let go of the weights."""
        self._is_closed = True
        self.tensors = []

    def _settle(self) -> None:
        if sys.platform == "linux":  # elsewhere that would be the priority of all threads
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _IDLE)
        if detect_host().topology.huge_pages not in ("always", "madvise"):
            _LOG.info("weights are read in small pages: this system gives out no huge ones")
            return
        tensors = self.tensors
        files = {record.file: self._arrays.file(record.file) for record in self._records}
        for mapped in files.values():
            populate(mapped)
        small = {path: mapped for path, mapped in files.items() if not are_huge(mapped)}
        if not small:
            _LOG.info("weights are read where the system's cache of files has them, in huge pages")
        elif not self._has_room:
            _LOG.info("weights are read in small pages: there is no memory for a copy in huge ones")
        else:
            copies = {path: empty_pages(mapped.shape, mapped.dtype) for path, mapped in small.items()}
            for index, record in enumerate(self._records):
                if self._is_closed:
                    return
                if record.file in copies:
                    tensors[index] = self._moved(record, copies[record.file])
            _LOG.info("weights were copied to huge pages")

    def _moved(self, record: ArrayRecord, copies: Bytes) -> object:
        source = self._arrays.bytes_of(record)
        copy = copies[record.offset : record.offset + len(source)]
        copy[...] = source
        # A step that still reads the source finds it in the file again.
        give_back(source)
        return shared(copy.view(record.dtype).reshape(record.shape))
