"""Reading relocatable objects: bytes in, records out, and a sentence for whatever is malformed."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from ...ir.errors import CompileError
from .elf import (
    FILE_HEADER,
    GRP_COMDAT,
    MAGIC,
    RELA,
    SECTION_HEADER,
    SYMBOL,
    Binding,
    FileHeader,
    FileType,
    Machine,
    Rela,
    SectionFlag,
    SectionHeader,
    SectionType,
    SpecialSection,
    SymbolKind,
    SymbolRecord,
    Visibility,
)

__all__ = ["ComdatGroup", "InputSection", "InputSymbol", "ObjectFile", "read_object"]


_Enum = TypeVar("_Enum", bound=IntEnum)


@dataclass(frozen=True, slots=True)
class InputSection:
    """One section of an object; ``data`` is empty where the section occupies no file space (``NOBITS``)."""

    name: str
    type: int
    flags: int
    alignment: int
    size: int
    data: memoryview
    relocations: tuple[Rela, ...] = ()


@dataclass(frozen=True, slots=True)
class InputSymbol:
    """One symbol of an object; ``section`` is an index into its sections or a :class:`SpecialSection`."""

    name: str
    binding: Binding
    kind: SymbolKind
    visibility: Visibility
    section: int
    value: int
    size: int


@dataclass(frozen=True, slots=True)
class ComdatGroup:
    """Sections of which the link keeps one copy, the first with this signature."""

    signature: str
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """A relocatable object; indices in its records are indices into its own tuples."""

    name: str
    machine: Machine
    sections: tuple[InputSection, ...]
    symbols: tuple[InputSymbol, ...]
    groups: tuple[ComdatGroup, ...] = ()


def read_object(data: bytes, name: str) -> ObjectFile:
    """Parse an ELF64 little-endian relocatable object; ``name`` is what errors call it.

    Raises:
        CompileError: the bytes are no such object, are cut short, or point outside themselves.
    """
    return _Reader(data, name).read()


class _Reader:
    def __init__(self, data: bytes, name: str) -> None:
        self.data = memoryview(data)
        self.name = name

    def read(self) -> ObjectFile:
        header = self._file_header()
        headers = self._section_headers(header)
        names = self._section_bytes(headers, header.section_names_index, "the table of section names")
        symbols, symbol_table = self._symbols(headers)
        relocations = self._relocations(headers, symbol_table, len(symbols))
        sections = tuple(
            InputSection(
                name=self._string(names, h.name),
                type=h.type,
                flags=h.flags,
                alignment=self._alignment(h.alignment),
                size=h.size,
                data=self._contents(h),
                relocations=tuple(relocations.get(index, ())),
            )
            for index, h in enumerate(headers)
        )
        return ObjectFile(
            self.name, Machine(header.machine), sections, symbols, tuple(self._groups(headers, symbols))
        )

    def _file_header(self) -> FileHeader:
        if self.data[: len(MAGIC) - 9] != MAGIC[:-9]:
            raise CompileError(f"{self.name} is not an ELF64 little-endian file.")
        header = FileHeader.unpack(self._slice(0, FILE_HEADER.size, "the file header"))
        if header.type != FileType.REL:
            raise CompileError(f"{self.name} is no relocatable object: its e_type is {header.type}, not 1.")
        if header.machine not in set(Machine):
            raise CompileError(
                f"{self.name} is for ELF machine {header.machine}, not x86-64 (62) or aarch64 (183)."
            )
        if header.num_sections == 0:
            raise CompileError(f"{self.name} has no section table, or one of more than 65279 sections.")
        if header.section_header_size != SECTION_HEADER.size:
            raise CompileError(
                f"{self.name} has section headers of {header.section_header_size} bytes, not 64."
            )
        return header

    def _section_headers(self, header: FileHeader) -> list[SectionHeader]:
        size = header.num_sections * SECTION_HEADER.size
        table = self._slice(header.section_headers_offset, size, "the section table")
        return [SectionHeader(*fields) for fields in SECTION_HEADER.iter_unpack(table)]

    def _symbols(self, headers: list[SectionHeader]) -> tuple[tuple[InputSymbol, ...], int]:
        tables = [index for index, h in enumerate(headers) if h.type == SectionType.SYMTAB]
        if not tables:
            return (), 0
        header = headers[tables[0]]
        names = self._section_bytes(headers, header.link, "the table of symbol names")
        records = self._records(header, SYMBOL.size, "the symbol table")
        symbols = (SymbolRecord(*fields) for fields in SYMBOL.iter_unpack(records))
        return tuple(self._symbol(s, names, len(headers)) for s in symbols), tables[0]

    def _symbol(self, record: SymbolRecord, names: bytes, num_sections: int) -> InputSymbol:
        name = self._string(names, record.name)
        special = record.section in (SpecialSection.ABS, SpecialSection.COMMON)
        if record.section >= num_sections and not special:
            raise CompileError(
                f"{self.name} defines symbol '{name}' in section {record.section}, which it lacks."
            )
        return InputSymbol(
            name=name,
            binding=self._known(Binding, record.info >> 4, f"the binding of symbol '{name}'"),
            kind=self._known(SymbolKind, record.info & 0xF, f"the type of symbol '{name}'"),
            visibility=Visibility(record.other & 3),
            section=record.section,
            value=record.value,
            size=record.size,
        )

    def _relocations(
        self, headers: list[SectionHeader], symbol_table: int, num_symbols: int
    ) -> dict[int, list[Rela]]:
        found: dict[int, list[Rela]] = {}
        for header in headers:
            if header.type not in (SectionType.RELA, SectionType.REL):
                continue
            if header.info >= len(headers):
                raise CompileError(f"{self.name} relocates section {header.info}, which it lacks.")
            if not headers[header.info].flags & SectionFlag.ALLOC:
                continue
            if header.type == SectionType.REL:
                raise CompileError(
                    f"{self.name} has relocations without addends (SHT_REL), which neither machine uses."
                )
            if header.link != symbol_table:
                raise CompileError(f"{self.name} has relocations that do not go by its symbol table.")
            records = self._records(header, RELA.size, "a relocation table")
            relocations = [Rela(*fields) for fields in RELA.iter_unpack(records)]
            if any(r.symbol >= num_symbols for r in relocations):
                raise CompileError(f"{self.name} relocates by a symbol beyond the {num_symbols} it has.")
            found.setdefault(header.info, []).extend(relocations)
        return found

    def _groups(
        self, headers: list[SectionHeader], symbols: tuple[InputSymbol, ...]
    ) -> Iterator[ComdatGroup]:
        for header in headers:
            if header.type != SectionType.GROUP:
                continue
            records = self._records(header, 4, "a section group")
            words = [word for (word,) in struct.iter_unpack("<I", records)]
            if not words or header.info >= len(symbols):
                raise CompileError(f"{self.name} has a section group without flags or signature.")
            if words[0] & GRP_COMDAT:
                yield ComdatGroup(symbols[header.info].name, tuple(words[1:]))

    def _contents(self, header: SectionHeader) -> memoryview:
        if header.type in (SectionType.NOBITS, SectionType.NULL):
            return self.data[:0]
        return self._slice(header.offset, header.size, "a section")

    def _section_bytes(self, headers: list[SectionHeader], index: int, what: str) -> bytes:
        if index >= len(headers):
            raise CompileError(f"{self.name} has no section {index}, which should hold {what}.")
        return bytes(self._slice(headers[index].offset, headers[index].size, what))

    def _records(self, header: SectionHeader, record_size: int, what: str) -> memoryview:
        if header.size % record_size:
            raise CompileError(
                f"{self.name} is malformed: {what} does not consist of {record_size}-byte records."
            )
        return self._slice(header.offset, header.size, what)

    def _slice(self, offset: int, size: int, what: str) -> memoryview:
        if offset + size > len(self.data):
            raise CompileError(
                f"{self.name} is cut short: {what} ends at byte {offset + size} of {len(self.data)}."
            )
        return self.data[offset : offset + size]

    def _string(self, table: bytes, offset: int) -> str:
        end = table.find(b"\0", offset)
        if end < 0 and offset:
            raise CompileError(
                f"{self.name} has a name at byte {offset} of a string table that does not end there."
            )
        return table[offset : max(end, 0)].decode("utf-8", "surrogateescape")

    def _alignment(self, alignment: int) -> int:
        if alignment & (alignment - 1):
            raise CompileError(
                f"{self.name} has a section aligned to {alignment}, which is not a power of two."
            )
        return max(alignment, 1)

    def _known(self, kind: type[_Enum], number: int, what: str) -> _Enum:
        try:
            return kind(number)
        except ValueError:
            raise CompileError(f"{self.name} has {number} for {what}, which is not known here.") from None
