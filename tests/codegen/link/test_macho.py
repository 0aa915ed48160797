"""Libraries for Macs, as the loader there reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ingot.codegen.link import export_executable
from ingot.codegen.link.zig import has_zig
from ingot.codegen.metal.host_library import build_host_library

from .macho_files import FLAT, MachO, read_macho
from .test_export import compiled

pytestmark = pytest.mark.skipif(not has_zig(), reason="needs the extra [cross]")

CALLS = (
    "open",
    "name",
    "number",
    "allocate",
    "share",
    "free",
    "compile",
    "kernel",
    "launch",
    "wait",
    "close",
)


def check_loadable(library: MachO) -> None:
    """Whatever a Mac with Apple silicon and macOS 11 has is all that it asks for, and TVM."""
    assert library.is_signed
    assert library.least_system == (11, 0)
    assert library.libraries == ["/usr/lib/libSystem.B.dylib"]
    assert all(name.startswith(("_TVM", "___TVM")) for name in library.flat), library.flat


def test_the_host_library_for_metal() -> None:
    library = read_macho(build_host_library())
    check_loadable(library)
    assert library.name == "@rpath/metal.dylib"
    assert {f"___tvm_ffi_metal_{name}" for name in CALLS} == {
        name for name in library.exports if name.startswith("___tvm_ffi_")
    }
    assert library.flat == {"_TVMFFIErrorSetRaisedFromCStr", "_TVMFFIStringFromByteArray"}
    assert {library.bound[name] for name in ("_dlopen", "_dlsym", "_memmove")} == {1}


def test_it_is_the_same_whenever_it_is_built() -> None:
    assert build_host_library.__wrapped__() == build_host_library()


@pytest.mark.slow
def test_a_library_of_kernels(tmp_path: Path) -> None:
    path = tmp_path / "kernels.dylib"
    export_executable(compiled("arm64-apple-macos"), path, "arm64-apple-macos")
    library = read_macho(path.read_bytes())
    check_loadable(library)
    assert "___tvm_ffi__library_bin" in library.exports
    assert FLAT in library.bound.values()


def test_a_page_that_was_altered_is_noticed() -> None:
    altered = bytearray(build_host_library())
    altered[-len(altered) // 2] ^= 1
    with pytest.raises(AssertionError):
        read_macho(bytes(altered))
