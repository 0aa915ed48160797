"""What a Mac's loader reads of a library: load commands, exports, what is bound to what, and the signature.

After Apple's ``mach-o/loader.h`` and ``cs_blobs.h``; it raises where a file is not as these say, or as the
loader and the kernel ask for.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

PAGE = 1 << 14
"""Of Apple silicon."""

FLAT = -2
"""``BIND_SPECIAL_DYLIB_FLAT_LOOKUP``: a name that any library which is loaded may define."""

_SEGMENT, _SYMTAB, _LOAD, _ID, _SIGNATURE, _BUILD = 0x19, 0x2, 0xC, 0xD, 0x1D, 0x32
_INFO = 0x80000022
_ARM64, _DYLIB = 0x0100000C, 6
_ADHOC = 0x2


@dataclass(frozen=True)
class Segment:
    name: str
    address: int
    num_bytes: int
    file_offset: int
    file_bytes: int
    is_writable: bool
    is_executable: bool


@dataclass
class MachO:
    """A library for Apple silicon: what it is called, asks for, gives, and takes from others."""

    segments: list[Segment] = field(default_factory=list)
    name: str = ""
    least_system: tuple[int, int] = (0, 0)
    libraries: list[str] = field(default_factory=list)
    exports: dict[str, int] = field(default_factory=dict)
    bound: dict[str, int] = field(default_factory=dict)
    """Names and the numbers of the libraries that have them, from 1, or :data:`FLAT`."""
    is_signed: bool = False

    @property
    def flat(self) -> set[str]:
        """Names that whatever is loaded may define."""
        return {name for name, library in self.bound.items() if library == FLAT}


def read_macho(data: bytes) -> MachO:
    """Read a library, and check it."""
    magic, cpu, _, kind, count, _, _, _ = struct.unpack_from("<8I", data)
    assert (magic, cpu, kind) == (0xFEEDFACF, _ARM64, _DYLIB)
    found, offset = MachO(), 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, offset)
        _read_command(found, data, command, offset)
        offset += size
    _check_segments(found, data)
    return found


def _read_command(found: MachO, data: bytes, command: int, offset: int) -> None:
    words = struct.unpack_from("<4I", data, offset)
    if command == _SEGMENT:
        name, *numbers = struct.unpack_from("<16s4Q4I", data, offset + 8)
        is_writable, is_executable = bool(numbers[5] & 2), bool(numbers[5] & 4)
        found.segments.append(Segment(name.rstrip(b"\0").decode(), *numbers[:4], is_writable, is_executable))
        _check_sections(data, offset, found.segments[-1], numbers[6])
    elif command in (_ID, _LOAD):
        name_of = data[offset + words[2] : offset + words[1]].split(b"\0")[0].decode()
        if command == _ID:
            found.name = name_of
        else:
            found.libraries.append(name_of)
    elif command == _BUILD:
        assert words[2] == 1, "not for macOS"
        found.least_system = words[3] >> 16, words[3] >> 8 & 255
    elif command == _INFO:
        places = struct.unpack_from("<10I", data, offset + 8)
        for start, size in (places[2:4], places[6:8]):
            found.bound |= dict(_bound_names(data[start : start + size]))
        found.exports = dict(_exports(data[places[8] : places[8] + places[9]]))
    elif command == _SIGNATURE:
        _check_signature(data, words[2], words[3])
        found.is_signed = True


def _check_sections(data: bytes, offset: int, segment: Segment, count: int) -> None:
    for number in range(count):
        address, size = struct.unpack_from("<2Q", data, offset + 72 + 80 * number + 32)
        assert segment.address <= address
        assert address + size <= segment.address + segment.num_bytes


def _check_segments(found: MachO, data: bytes) -> None:
    """As the loader maps them: in order, each from a page on, none both written and run. What a segment has
    behind its part of the file is zeros, and a page is mapped whole.
    """
    first, last = found.segments[0], found.segments[-1]
    assert (first.name, first.file_offset, last.name) == ("__TEXT", 0, "__LINKEDIT")
    assert last.file_offset + last.file_bytes == len(data)
    end = file_end = 0
    for segment in found.segments:
        assert segment.address % PAGE == segment.file_offset % PAGE == 0
        assert segment.address >= end
        assert segment.file_offset >= file_end
        assert segment.file_bytes <= segment.num_bytes
        behind = segment.file_offset + segment.file_bytes
        assert segment is last or not any(data[behind : -(-behind // PAGE) * PAGE])
        assert not (segment.is_writable and segment.is_executable)
        end, file_end = segment.address + segment.num_bytes, segment.file_offset + segment.file_bytes


def _check_signature(data: bytes, start: int, size: int) -> None:
    """Made ad hoc, that is by nobody, over every page before it: Apple silicon runs nothing unsigned."""
    assert start + size == len(data)
    magic, length, count = struct.unpack_from(">3I", data, start)
    assert magic == 0xFADE0CC0
    assert length <= size
    blobs = dict(struct.unpack_from(">2I", data, start + 12 + 8 * number) for number in range(count))
    directory = start + blobs[0]
    magic, _, _, flags, hashes, _, _, num_pages, limit = struct.unpack_from(">9I", data, directory)
    hash_bytes, hash_kind, _, page_bits = struct.unpack_from("4B", data, directory + 36)
    assert (magic, flags & _ADHOC, hash_bytes, hash_kind) == (0xFADE0C02, _ADHOC, 32, 2)
    assert limit == start
    page = 1 << page_bits
    assert num_pages == -(-limit // page)
    for number in range(num_pages):
        own = data[number * page : min((number + 1) * page, limit)]
        place = directory + hashes + 32 * number
        assert hashlib.sha256(own).digest() == data[place : place + 32]


def _bound_names(code: bytes) -> Iterator[tuple[str, int]]:
    """What the loader's little program binds, by the library that has it."""
    at, library, name = 0, 0, ""
    while at < len(code):
        opcode, own = code[at] & 0xF0, code[at] & 0x0F
        at += 1
        if opcode == 0x10:
            library = own
        elif opcode == 0x20:
            library, at = _number(code, at)
        elif opcode == 0x30:
            library = own - 16 if own else 0
        elif opcode == 0x40:
            end = code.index(0, at)
            name, at = code[at:end].decode(), end + 1
        elif opcode in (0x60, 0x70, 0x80, 0xA0):  # a number that is not needed here
            at = _number(code, at)[1]
        elif opcode == 0xC0:
            at = _number(code, _number(code, at)[1])[1]
        if opcode in (0x90, 0xA0, 0xB0, 0xC0):
            yield name, library


def _exports(trie: bytes, at: int = 0, name: str = "") -> Iterator[tuple[str, int]]:
    """Names and addresses of a prefix tree."""
    if not trie:
        return
    size, at = _number(trie, at)
    if size:
        _, place = _number(trie, at)
        yield name, _number(trie, place)[0]
    at += size
    num_children, at = trie[at], at + 1
    for _ in range(num_children):
        end = trie.index(0, at)
        child, next_at = _number(trie, end + 1)
        yield from _exports(trie, child, name + trie[at:end].decode())
        at = next_at


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
