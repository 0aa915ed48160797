"""ELF64 little-endian: the constants and records that object files and shared libraries are made of.

Names and numbers are those of the System V ABI (generic part, chapters 4 and 5) and of ``elf.h``; only what
the linker reads or writes is here.
"""

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple, Self

__all__ = [
    "FILE_HEADER",
    "GRP_COMDAT",
    "MAGIC",
    "PROGRAM_HEADER",
    "RELA",
    "SECTION_HEADER",
    "SYMBOL",
    "Binding",
    "DynamicTag",
    "FileHeader",
    "FileType",
    "Machine",
    "ProgramHeader",
    "Rela",
    "SectionFlag",
    "SectionHeader",
    "SectionType",
    "SegmentFlag",
    "SegmentType",
    "SpecialSection",
    "SymbolKind",
    "SymbolRecord",
    "Visibility",
    "align_up",
]

MAGIC = b"\x7fELF\x02\x01\x01" + bytes(9)
"""``e_ident``: 64 bits, little-endian, version 1, System V ABI."""

GRP_COMDAT = 1

FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")


class FileType(IntEnum):
    """``e_type``."""

    REL = 1
    DYN = 3


class Machine(IntEnum):
    """``e_machine``."""

    X86_64 = 62
    AARCH64 = 183


class SectionType(IntEnum):
    """``sh_type``."""

    NULL = 0
    PROGBITS = 1
    SYMTAB = 2
    STRTAB = 3
    RELA = 4
    DYNAMIC = 6
    NOTE = 7
    NOBITS = 8
    REL = 9
    DYNSYM = 11
    INIT_ARRAY = 14
    FINI_ARRAY = 15
    GROUP = 17
    GNU_HASH = 0x6FFFFFF6
    X86_64_UNWIND = 0x70000001


class SectionFlag(IntFlag):
    """``sh_flags``."""

    WRITE = 0x1
    ALLOC = 0x2
    EXECINSTR = 0x4
    TLS = 0x400


class SpecialSection(IntEnum):
    """Values of ``st_shndx`` that are no index into the section table."""

    UNDEF = 0
    LORESERVE = 0xFF00
    ABS = 0xFFF1
    COMMON = 0xFFF2


class Binding(IntEnum):
    """The upper half of ``st_info``."""

    LOCAL = 0
    GLOBAL = 1
    WEAK = 2


class SymbolKind(IntEnum):
    """The lower half of ``st_info``."""

    NOTYPE = 0
    OBJECT = 1
    FUNC = 2
    SECTION = 3
    FILE = 4
    COMMON = 5
    TLS = 6
    GNU_IFUNC = 10


class Visibility(IntEnum):
    """The two low bits of ``st_other``."""

    DEFAULT = 0
    INTERNAL = 1
    HIDDEN = 2
    PROTECTED = 3


class SegmentType(IntEnum):
    """``p_type``."""

    LOAD = 1
    DYNAMIC = 2
    GNU_EH_FRAME = 0x6474E550
    GNU_STACK = 0x6474E551
    GNU_RELRO = 0x6474E552


class SegmentFlag(IntFlag):
    """``p_flags``."""

    X = 1
    W = 2
    R = 4


class DynamicTag(IntEnum):
    """``d_tag``."""

    NULL = 0
    NEEDED = 1
    STRTAB = 5
    SYMTAB = 6
    RELA = 7
    RELASZ = 8
    RELAENT = 9
    STRSZ = 10
    SYMENT = 11
    SONAME = 14
    INIT_ARRAY = 25
    FINI_ARRAY = 26
    INIT_ARRAYSZ = 27
    FINI_ARRAYSZ = 28
    FLAGS = 30
    GNU_HASH = 0x6FFFFEF5
    RELACOUNT = 0x6FFFFFF9
    FLAGS_1 = 0x6FFFFFFB


class FileHeader(NamedTuple):
    """``Elf64_Ehdr`` after ``e_ident``."""

    type: int
    machine: int
    version: int = 1
    entry: int = 0
    program_headers_offset: int = 0
    section_headers_offset: int = 0
    flags: int = 0
    header_size: int = 64
    program_header_size: int = 56
    num_program_headers: int = 0
    section_header_size: int = 64
    num_sections: int = 0
    section_names_index: int = 0

    def pack(self) -> bytes:
        """The header's 64 bytes, ``e_ident`` included."""
        return FILE_HEADER.pack(MAGIC, *self)

    @classmethod
    def unpack(cls, data: memoryview) -> Self:
        """The header that ``data`` (64 bytes) holds; ``e_ident`` is the caller's to check."""
        return cls(*FILE_HEADER.unpack(data)[1:])


class SectionHeader(NamedTuple):
    """``Elf64_Shdr``."""

    name: int = 0
    type: int = SectionType.NULL
    flags: int = 0
    address: int = 0
    offset: int = 0
    size: int = 0
    link: int = 0
    info: int = 0
    alignment: int = 0
    entry_size: int = 0

    def pack(self) -> bytes:
        """The header's 64 bytes."""
        return SECTION_HEADER.pack(*self)


class ProgramHeader(NamedTuple):
    """``Elf64_Phdr``."""

    type: int
    flags: int
    offset: int = 0
    address: int = 0
    physical_address: int = 0
    file_size: int = 0
    memory_size: int = 0
    alignment: int = 0

    def pack(self) -> bytes:
        """The header's 56 bytes."""
        return PROGRAM_HEADER.pack(*self)


class SymbolRecord(NamedTuple):
    """``Elf64_Sym``."""

    name: int = 0
    info: int = 0
    other: int = 0
    section: int = SpecialSection.UNDEF
    value: int = 0
    size: int = 0

    def pack(self) -> bytes:
        """The symbol's 24 bytes."""
        return SYMBOL.pack(*self)


class Rela(NamedTuple):
    """``Elf64_Rela``; the symbol's index is the upper half of ``info``, the relocation's type the lower."""

    offset: int
    info: int
    addend: int

    @property
    def symbol(self) -> int:
        """Index into the symbol table."""
        return self.info >> 32

    @property
    def type(self) -> int:
        """The machine's number for the relocation."""
        return self.info & 0xFFFFFFFF

    def pack(self) -> bytes:
        """The relocation's 24 bytes."""
        return RELA.pack(*self)


def align_up(value: int, alignment: int) -> int:
    """The least multiple of ``alignment`` (a power of two) that is not below ``value``."""
    return (value + alignment - 1) & -alignment
