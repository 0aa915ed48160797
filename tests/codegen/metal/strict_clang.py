"""Shaders as clang sees them in C++ for OpenCL, a language with Metal's address spaces and most of its bans.

A pointer to one space is none to another there, arrays of a block are for kernels alone, ``half`` is a word
of the language, and there are no exceptions, virtual functions or function pointers: g++ checks none of that.
What has no space named is in one that fits all there, which Metal has not: that is looked for in what clang
read.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_ARGUMENTS = (
    *("-x", "clcpp", "-cl-std=clc++2021", "-target", "spir64-unknown-unknown", "-cl-no-stdinc", "-nostdinc"),
    *("-Wno-unknown-attributes", "-Wno-unknown-pragmas", "-Wno-c++17-extensions"),
)
_FILE = "shaders.clcpp"

has_clang = importlib.util.find_spec("clang") is not None
needs_clang = pytest.mark.skipif(not has_clang, reason="shaders are read by clang: pip install libclang")


def problems(text: str) -> list[str]:
    """What clang says against a program of shaders."""
    cindex: Any = importlib.import_module("clang.cindex")
    text = re.sub(r"\[\[kernel, [^\]]*\]\] void", "kernel void", text)
    unit = cindex.Index.create().parse(
        _FILE,
        args=[*_ARGUMENTS, f"-I{Path(__file__).with_name('strict')}"],
        unsaved_files=[(_FILE, text)],
    )
    lines = text.split("\n")
    found = [
        (diagnostic.location.line, diagnostic.spelling)
        for diagnostic in unit.diagnostics
        if diagnostic.severity >= cindex.Diagnostic.Error
    ]
    if not found:
        found = [
            (cursor.location.line, f"no address space is named in {cursor.type.spelling}")
            for cursor in _written(cindex, unit.cursor)
            if not _has_space(cindex, cursor.type)
        ]
    return [f"{line}: {what}: {lines[line - 1].strip()[:160]}" for line, what in found]


def _written(cindex: Any, cursor: Any) -> Iterator[Any]:
    """Declarations and casts of the program itself."""
    kinds = cindex.CursorKind
    wanted = {
        kinds.VAR_DECL,
        kinds.PARM_DECL,
        kinds.FIELD_DECL,
        kinds.CSTYLE_CAST_EXPR,
        kinds.CXX_REINTERPRET_CAST_EXPR,
        kinds.CXX_STATIC_CAST_EXPR,
    }
    for child in cursor.get_children():
        if child.location.file is None or child.location.file.name != _FILE:
            continue
        if child.kind in wanted:
            yield child
        yield from _written(cindex, child)


def _has_space(cindex: Any, kind: Any) -> bool:
    """Whether a type, if it points, says where to."""
    references = cindex.TypeKind.POINTER, cindex.TypeKind.LVALUEREFERENCE, cindex.TypeKind.RVALUEREFERENCE
    if kind.kind not in references:
        return True
    pointee = kind.get_pointee()
    names = "__global", "__local", "__private", "__constant"
    return any(name in pointee.spelling or name in pointee.get_canonical().spelling for name in names)
