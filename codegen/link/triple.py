"""Target triples, as far as a linker cares: the machine, the system and its C library."""

from dataclasses import dataclass
from typing import Self

from ...ir.errors import CompileError
from .elf import Machine

__all__ = ["Triple"]

_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_SYSTEMS = {
    "linux": "linux",
    "macos": "macos",
    "macosx": "macos",
    "darwin": "macos",
    "windows": "windows",
    "win32": "windows",
    "mingw32": "windows",
}


@dataclass(frozen=True, slots=True)
class Triple:
    """A parsed triple.

    ``architecture`` is ``x86_64`` or ``aarch64``, ``system`` is ``linux``, ``macos`` or ``windows``;
    ``environment`` is the last part, such as ``gnu``, ``musl`` or ``android``, and empty where there is none.
    """

    architecture: str
    system: str
    environment: str = ""

    @property
    def elf_machine(self) -> Machine:
        """The architecture's number in ELF."""
        return Machine.X86_64 if self.architecture == "x86_64" else Machine.AARCH64

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ARCHITECTURE-[VENDOR-]SYSTEM[-ENVIRONMENT]``; versions after the system's name are ignored.

        Raises:
            CompileError: the text is no triple, or no library can be linked for its machine or system.
        """
        architecture, *rest = text.split("-")
        if architecture not in _ARCHITECTURES:
            known = ", ".join(_ARCHITECTURES)
            raise CompileError(f"'{architecture}' in target triple '{text}' is not one of {known}.")
        for position, part in enumerate(rest[:2]):
            system = _SYSTEMS.get(part.rstrip("0123456789.")) or _SYSTEMS.get(part)
            if system is not None:
                return cls(_ARCHITECTURES[architecture], system, "-".join(rest[position + 1 :]))
        raise CompileError(f"target triple '{text}' names none of the systems linux, macos and windows.")
