"""Shared libraries from the objects that LLVM makes, on a machine with neither compiler nor linker.

======================  =====================================================================
``elf``                 constants and records of the format
``objects``             reading relocatable objects
``symbols``             resolving names, choosing among copies
``machine``             what a relocation is; ``x86_64`` and ``aarch64`` are one table each
``layout``              sections to segments and addresses
``relocate``            patching the code, and what is left to the dynamic loader
``dynamic``             what the dynamic loader reads
``linker``              these in order: :func:`link_elf`
``macho``, ``zig``      macOS, by the package ``ziglang``
``shared``, ``export``  any target triple: :func:`link_shared`; from TVM: :func:`export_executable`
======================  =====================================================================
"""

from .export import export_executable
from .linker import link_elf
from .shared import link_shared

__all__ = ["export_executable", "link_elf", "link_shared"]
