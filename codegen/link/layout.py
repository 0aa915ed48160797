"""Layout: which output section each input section goes to, and at which address.

::

    R      headers  .gnu.hash .dynsym .dynstr .rela.dyn  .rodata  .eh_frame_hdr .eh_frame
    RX     .plt .text
    RELRO  .data.rel.ro .init_array .fini_array .dynamic .got      read-only once relocated
    RW     .data .bss

Each segment starts in a page of its own, at the offset in that page that it has in the file, so that the file
needs no padding however large the pages are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ...ir.errors import CompileError
from .elf import (
    FILE_HEADER,
    PROGRAM_HEADER,
    ProgramHeader,
    SectionFlag,
    SectionType,
    SegmentFlag,
    SegmentType,
    align_up,
)
from .objects import InputSection
from .symbols import Program, SectionKey

__all__ = ["Layout", "OutputSection", "Segment", "assign_addresses", "collect_sections"]

_LAST_PRIORITY = 65536
_MAX_SIZE = 1 << 31


class Segment(Enum):
    """A run of pages with one protection."""

    R = "read-only"
    RX = "executable"
    RELRO = "read-only once relocated"
    RW = "writable"

    @property
    def flags(self) -> SegmentFlag:
        """``p_flags`` while loading."""
        return _SEGMENT_FLAGS[self]


_SEGMENT_FLAGS = {
    Segment.R: SegmentFlag.R,
    Segment.RX: SegmentFlag.R | SegmentFlag.X,
    Segment.RELRO: SegmentFlag.R | SegmentFlag.W,
    Segment.RW: SegmentFlag.R | SegmentFlag.W,
}


@dataclass(slots=True)
class OutputSection:
    """A section of the library; ``pieces`` are the input sections in it with their offsets there."""

    name: str
    segment: Segment
    type: int = SectionType.PROGBITS
    flags: int = SectionFlag.ALLOC
    alignment: int = 1
    link: str = ""
    entry_size: int = 0
    size: int = 0
    address: int = 0
    offset: int = 0
    pieces: dict[SectionKey, int] = field(default_factory=dict)


_W = SectionFlag.ALLOC | SectionFlag.WRITE
_X = SectionFlag.ALLOC | SectionFlag.EXECINSTR


def _template() -> list[OutputSection]:
    return [
        OutputSection(".gnu.hash", Segment.R, SectionType.GNU_HASH, alignment=8, link=".dynsym"),
        OutputSection(".dynsym", Segment.R, SectionType.DYNSYM, alignment=8, link=".dynstr", entry_size=24),
        OutputSection(".dynstr", Segment.R, SectionType.STRTAB),
        OutputSection(".rela.dyn", Segment.R, SectionType.RELA, alignment=8, link=".dynsym", entry_size=24),
        OutputSection(".rodata", Segment.R),
        OutputSection(".eh_frame_hdr", Segment.R, alignment=4),
        OutputSection(".eh_frame", Segment.R, alignment=8),
        OutputSection(".plt", Segment.RX, flags=_X, alignment=16),
        OutputSection(".text", Segment.RX, flags=_X),
        OutputSection(".data.rel.ro", Segment.RELRO, flags=_W),
        OutputSection(".init_array", Segment.RELRO, SectionType.INIT_ARRAY, _W, alignment=8, entry_size=8),
        OutputSection(".fini_array", Segment.RELRO, SectionType.FINI_ARRAY, _W, alignment=8, entry_size=8),
        OutputSection(".dynamic", Segment.RELRO, SectionType.DYNAMIC, _W, 8, ".dynstr", entry_size=16),
        OutputSection(".got", Segment.RELRO, flags=_W, alignment=8, entry_size=8),
        OutputSection(".data", Segment.RW, flags=_W),
        OutputSection(".bss", Segment.RW, SectionType.NOBITS, _W),
    ]


@dataclass(slots=True)
class Layout:
    """The output sections that the library has, in file order, and where the input sections are."""

    sections: dict[str, OutputSection]
    program_headers: list[ProgramHeader] = field(default_factory=list)
    file_size: int = 0
    _homes: dict[SectionKey, tuple[OutputSection, int]] = field(default_factory=dict)

    def add(self, name: str, key: SectionKey, section: InputSection) -> None:
        """Append an input section to the output section ``name``."""
        home = self.sections[name]
        # Padding between records of unwind data would read as their end, and four bytes is all they need.
        alignment = 4 if name == ".eh_frame" else section.alignment
        offset = align_up(home.size, alignment)
        home.alignment = max(home.alignment, alignment)
        home.size = offset + section.size
        home.pieces[key] = offset
        self._homes[key] = (home, offset)

    def address_of(self, section: SectionKey | str | None) -> int:
        """The address of an input section, of an output section, or zero for the absolute."""
        if section is None:
            return 0
        if isinstance(section, str):
            return self.sections[section].address
        home, offset = self._homes[section]
        return home.address + offset

    def offset_of(self, key: SectionKey) -> int:
        """The file offset of an input section."""
        home, offset = self._homes[key]
        return home.offset + offset

    def index_of(self, section: SectionKey | str | None) -> int | None:
        """The number, in the section table, of the output section; None for the absolute."""
        if section is None:
            return None
        name = section if isinstance(section, str) else self._homes[section][0].name
        return 1 + list(self.sections).index(name)


def collect_sections(program: Program, reserved: Mapping[str, int]) -> Layout:
    """Distribute the input sections; ``reserved`` are the bytes of the sections that the linker writes."""
    layout = Layout({section.name: section for section in _template()})
    for key in sorted(program.kept, key=lambda k: _priority(program.section(k))):
        section = program.section(key)
        layout.add(_output_name(section), key, section)
    for name, size in reserved.items():
        layout.sections[name].size += size
    layout.sections = {name: s for name, s in layout.sections.items() if s.size or s.pieces}
    return layout


def _output_name(section: InputSection) -> str:
    if section.flags & SectionFlag.EXECINSTR:
        return ".text"
    if section.type == SectionType.INIT_ARRAY:
        return ".init_array"
    if section.type == SectionType.FINI_ARRAY:
        return ".fini_array"
    if not section.flags & SectionFlag.WRITE:
        return ".eh_frame" if section.name == ".eh_frame" else ".rodata"
    if section.name == ".data.rel.ro" or section.name.startswith(".data.rel.ro."):
        return ".data.rel.ro"
    return ".bss" if section.type == SectionType.NOBITS else ".data"


def _priority(section: InputSection) -> int:
    """Constructors with a priority, ``.init_array.N``, run in its order and before those without."""
    if section.type not in (SectionType.INIT_ARRAY, SectionType.FINI_ARRAY):
        return 0
    suffix = section.name.rpartition(".")[2]
    return int(suffix) if suffix.isdecimal() else _LAST_PRIORITY


def assign_addresses(layout: Layout, page_size: int) -> None:
    """Set address and offset of every section, the program headers, and the bytes the file has for them.

    Raises:
        CompileError: a section wants to be aligned beyond a page, or the library is beyond 2 GiB.
    """
    groups = {segment: [s for s in layout.sections.values() if s.segment is segment] for segment in Segment}
    num_headers = sum(map(bool, groups.values())) + len(_SPECIAL_HEADERS)
    headers_size = FILE_HEADER.size + num_headers * PROGRAM_HEADER.size
    address = offset = headers_size
    loads: dict[Segment, ProgramHeader] = {}
    for segment, sections in groups.items():
        if not sections:
            continue
        start, start_offset = 0, 0
        if loads:
            address = align_up(address, page_size) + offset % page_size
            start, start_offset = address, offset
        for section in sections:
            if section.alignment > page_size:
                raise CompileError(
                    f"output section {section.name} asks for alignment to {section.alignment} bytes; "
                    f"a page, {page_size}, is the most there is."
                )
            address = align_up(address, section.alignment)
            section.address, section.offset = address, start_offset + address - start
            address += section.size
            if section.type != SectionType.NOBITS:
                offset = section.offset + section.size
        if segment is Segment.RELRO:
            address = align_up(address, page_size)
        loads[segment] = ProgramHeader(
            type=SegmentType.LOAD,
            flags=segment.flags,
            offset=start_offset,
            address=start,
            physical_address=start,
            file_size=offset - start_offset,
            memory_size=address - start,
            alignment=page_size,
        )
    if address > _MAX_SIZE:
        raise CompileError(f"the library would take {address} bytes, beyond the 2 GiB that code can span.")
    layout.file_size = offset
    layout.program_headers = [*loads.values(), *_special_headers(layout, loads[Segment.RELRO])]


_SPECIAL_HEADERS = (
    SegmentType.DYNAMIC,
    SegmentType.GNU_EH_FRAME,
    SegmentType.GNU_STACK,
    SegmentType.GNU_RELRO,
)


def _special_headers(layout: Layout, relro: ProgramHeader) -> list[ProgramHeader]:
    return [
        _header_of(SegmentType.DYNAMIC, SegmentFlag.R | SegmentFlag.W, layout.sections[".dynamic"]),
        _header_of(SegmentType.GNU_EH_FRAME, SegmentFlag.R, layout.sections[".eh_frame_hdr"]),
        ProgramHeader(SegmentType.GNU_STACK, SegmentFlag.R | SegmentFlag.W, alignment=16),
        relro._replace(type=SegmentType.GNU_RELRO, flags=SegmentFlag.R, alignment=1),
    ]


def _header_of(kind: SegmentType, flags: SegmentFlag, section: OutputSection) -> ProgramHeader:
    address, size = section.address, section.size
    return ProgramHeader(kind, flags, section.offset, address, address, size, size, section.alignment)
