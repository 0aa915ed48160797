"""One entrance for all systems: objects and a target triple in, a shared library out."""

from collections.abc import Sequence

from ...ir.errors import CompileError
from .linker import link_elf
from .macho import link_macho
from .triple import Triple

__all__ = ["link_shared"]


def link_shared(objects: Sequence[bytes], triple: str, *, name: str = "") -> bytes:
    """Link relocatable objects for the system that ``triple`` names.

    For Linux the linker is the one here. On glibc the library asks for ``libm.so.6``, so that the
    mathematical functions which LLVM calls are there whatever loads it.

    Args:
        objects: the objects' contents, in link order.
        triple: the target triple they were compiled for, such as ``aarch64-unknown-linux-gnu``.
        name: the library's own name (soname, install name); none if empty.

    Raises:
        CompileError: the system is Windows or unknown, or what :func:`link_elf` and :func:`link_macho` raise.
    """
    target = Triple.parse(triple)
    if target.system == "windows":
        raise CompileError(
            f"no library can be linked for '{triple}': Windows is not supported, build for Linux or macOS."
        )
    if target.system == "macos":
        return link_macho(objects, architecture=target.architecture, name=name or "library.dylib")
    is_glibc = not target.environment or target.environment.startswith("gnu")
    return link_elf(
        objects, soname=name, needed=("libm.so.6",) if is_glibc else (), machine=target.elf_machine
    )
