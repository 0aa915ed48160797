"""From an executable that TVM compiled to a shared library, without a compiler or a linker on the machine."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ...ir.errors import CompileError
from .shared import link_shared

__all__ = ["Exportable", "export_executable"]


class Exportable(Protocol):
    """What :func:`export_executable` needs of ``tvm.runtime.Executable`` and ``tvm.runtime.Module``."""

    def export_library(
        self,
        file_name: str,
        *,
        fcompile: Callable[..., None],
        addons: list[str] | None,
        workspace_dir: str,
    ) -> object:
        """Write each part as an object to ``workspace_dir`` and hand the files to ``fcompile``."""


def export_executable(
    executable: Exportable, path: Path, triple: str, *, addons: Sequence[bytes] = ()
) -> None:
    """Write ``executable`` to ``path`` as the shared library that ``tvm.runtime.load_module`` loads.

    TVM hands over one object per code module, and one, written by LLVM too, that holds everything else (the
    virtual machine's bytecode, constants, GPU code) as ``__tvm_ffi__library_bin``. The library has no name
    of its own, so that its bytes do not depend on ``path``.

    Args:
        executable: what ``tvm.compile`` returned.
        path: the library to write; it is replaced if it exists.
        triple: the target triple that the executable was compiled for.
        addons: further objects, such as kernels that the executable calls.

    Raises:
        CompileError: the executable holds C source, which only a C compiler could take, or cannot be linked.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"addon{index}.o") for index in range(len(addons))]
        for file, data in zip(files, addons, strict=True):
            file.write_bytes(data)
        link = _Link(triple)
        executable.export_library(
            str(path), fcompile=link, addons=[str(file) for file in files] or None, workspace_dir=folder
        )
    path.write_bytes(link.library)


class _Link:
    """The callback that TVM calls as ``fcompile(output, files)``; it reads two attributes of it as well."""

    object_format = "o"

    def __init__(self, triple: str) -> None:
        self._triple = triple
        self.library = b""

    def get_target_triple(self) -> str:
        """By this TVM writes the remaining parts with LLVM, not as C, when no module of code is there."""
        return self._triple

    def __call__(self, output: str, files: Sequence[str], **_: object) -> None:
        parts = [(Path(file).suffix, Path(file).read_bytes()) for file in files]
        for suffix, data in parts:
            # TVM puts an empty C module where an executable has no host code of its own.
            if suffix != ".o" and data.strip(b"; \n"):
                raise CompileError(f"{output} holds a '{suffix}' module, which only a C compiler could take.")
        objects = [data for suffix, data in parts if suffix == ".o"]
        self.library = link_shared(objects, self._triple)
