"""Objects made by hand, linked, loaded into this process and called."""

import contextlib
import ctypes
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingot.codegen.link import link_elf, link_shared
from ingot.codegen.link.elf import (
    MAGIC,
    PROGRAM_HEADER,
    SYMBOL,
    Binding,
    DynamicTag,
    FileHeader,
    Machine,
    Rela,
    SectionFlag,
    SectionHeader,
    SectionType,
    SegmentFlag,
    SegmentType,
    SpecialSection,
    SymbolKind,
    SymbolRecord,
    Visibility,
)
from ingot.ir.errors import CompileError

A, W, X = SectionFlag.ALLOC, SectionFlag.WRITE, SectionFlag.EXECINSTR
PC32, PLT32, ABS64, GOTPCREL, REX_GOTPCRELX = 2, 4, 1, 9, 42

runs_x86_64 = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="runs x86-64 Linux code"
)


@dataclass
class Object:
    """Writes a relocatable object; sections and symbols are numbered from 1 in the order they are added."""

    machine: Machine = Machine.X86_64
    sections: list[tuple[str, int, int, int, bytes, int]] = field(default_factory=list)
    symbols: list[tuple[str, SymbolRecord]] = field(default_factory=list)
    relocations: dict[int, list[Rela]] = field(default_factory=dict)
    groups: list[tuple[int, list[int]]] = field(default_factory=list)

    def section(
        self, name: str, data: bytes = b"", flags: int = A | X, type: int = SectionType.PROGBITS,
        alignment: int = 8, size: int | None = None,
    ) -> int:  # fmt: skip
        self.sections.append((name, type, flags, alignment, data, len(data) if size is None else size))
        return len(self.sections)

    def symbol(
        self, name: str, section: int = 0, value: int = 0, *, binding: int = Binding.GLOBAL,
        visibility: int = Visibility.DEFAULT, kind: int = SymbolKind.NOTYPE, size: int = 0,
    ) -> int:  # fmt: skip
        record = SymbolRecord(0, binding << 4 | kind, visibility, section, value, size)
        self.symbols.append((name, record))
        return len(self.symbols)

    def relocate(self, section: int, offset: int, type: int, symbol: int, addend: int = 0) -> None:
        self.relocations.setdefault(section, []).append(Rela(offset, symbol << 32 | type, addend))

    def build(self) -> bytes:
        names, headers, body = b"\0", [SectionHeader()], b""
        base = 64

        def add(name: str, data: bytes, **fields: int) -> None:
            nonlocal names, body
            body += bytes(-len(body) % 16)
            fields.setdefault("size", len(data))
            headers.append(SectionHeader(name=len(names), offset=base + len(body), **fields))
            names += name.encode() + b"\0"
            body += data

        for name, type_, flags, alignment, data, size in self.sections:
            add(name, data, type=type_, flags=flags, alignment=alignment, size=size)
        symtab = 1 + len(self.sections)
        strings, records = b"\0", SymbolRecord().pack()
        for name, record in self.symbols:
            records += record._replace(name=len(strings)).pack()
            strings += name.encode() + b"\0"
        add(".symtab", records, type=SectionType.SYMTAB, link=symtab + 1, info=1, entry_size=24)
        add(".strtab", strings, type=SectionType.STRTAB)
        for section, entries in self.relocations.items():
            data = b"".join(entry.pack() for entry in entries)
            add(".rela", data, type=SectionType.RELA, link=symtab, info=section, entry_size=24)
        for signature, members in self.groups:
            data = struct.pack(f"<{1 + len(members)}I", 1, *members)
            add(".group", data, type=SectionType.GROUP, link=symtab, info=signature, entry_size=4)
        add(".shstrtab", names + b".shstrtab\0", type=SectionType.STRTAB)
        header = FileHeader(
            type=1,
            machine=self.machine,
            section_headers_offset=base + len(body),
            num_sections=len(headers),
            section_names_index=len(headers) - 1,
        )
        return header.pack() + body + b"".join(h.pack() for h in headers)


def returning(value: int, name: str = "f", **symbol: int) -> Object:
    """An object with a function that returns ``value``."""
    obj = Object()
    text = obj.section(".text", b"\xb8" + struct.pack("<i", value) + b"\xc3")
    obj.symbol(name, text, kind=SymbolKind.FUNC, **symbol)
    return obj


def calling(callee: str, name: str = "caller", **symbol: int) -> Object:
    """An object with a function that calls ``callee`` through PLT32 (its arguments pass through)."""
    obj = Object()
    text = obj.section(".text", b"\x48\x83\xec\x08\xe8\0\0\0\0\x48\x83\xc4\x08\xc3")
    obj.symbol(name, text, kind=SymbolKind.FUNC)
    obj.relocate(text, 5, PLT32, obj.symbol(callee, **symbol), -4)
    return obj


def loading(symbol: str, relocation: int, name: str = "get", opcode: bytes = b"\x48\x8b\x05") -> Object:
    """An object with a function that returns the 8 bytes at (8b) or the address of (8d) ``symbol``."""
    obj = Object()
    text = obj.section(".text", opcode + bytes(4) + b"\xc3")
    obj.symbol(name, text, kind=SymbolKind.FUNC)
    obj.relocate(text, 3, relocation, obj.symbol(symbol), -4)
    return obj


@pytest.fixture
def load(tmp_path: Path) -> Iterator:
    count = 0

    def load(*objects: Object, **options: object) -> ctypes.CDLL:
        nonlocal count
        count += 1
        path = tmp_path / f"lib{count}.so"
        path.write_bytes(link_elf([o.build() for o in objects], **options))
        return ctypes.CDLL(str(path))

    return load


def call(library: ctypes.CDLL, name: str, *arguments: int) -> int:
    function = library[name]
    function.restype = ctypes.c_int64
    return function(*arguments)


@runs_x86_64
def test_a_call_between_objects_is_bound_directly(load):
    assert call(load(calling("f"), returning(42)), "caller") == 42


@runs_x86_64
def test_a_call_out_of_the_library_goes_to_the_loaded_process(load):
    assert call(load(calling("labs")), "caller", ctypes.c_int64(-(1 << 40))) == 1 << 40


@runs_x86_64
@pytest.mark.parametrize("relocation", [GOTPCREL, REX_GOTPCRELX])
def test_the_offset_table_holds_own_and_imported_addresses(load, relocation):
    library = load(returning(7), loading("f", relocation), loading("labs", relocation, "get_labs"))
    assert ctypes.CFUNCTYPE(ctypes.c_int)(call(library, "get"))() == 7
    assert call(library, "get_labs") == ctypes.cast(ctypes.CDLL(None).labs, ctypes.c_void_p).value


@runs_x86_64
def test_data_is_initialised_and_pointers_in_it_are_relocated(load):
    obj = loading("value", PC32)
    data = obj.section(".data.rel.ro", bytes(24), A | W)
    obj.symbol("pointers", data, kind=SymbolKind.OBJECT)
    obj.relocate(data, 0, ABS64, obj.symbol("value"), 8)
    obj.relocate(data, 8, ABS64, obj.symbol("labs"))
    obj.relocate(data, 16, ABS64, obj.symbol("absent", binding=Binding.WEAK))
    value = Object()
    value.symbol("value", value.section(".data.x", struct.pack("<2q", 5, 6), A | W, alignment=64))
    library = load(obj, value)
    assert call(library, "get") == 5
    first, imported, absent = (ctypes.c_int64 * 3).in_dll(library, "pointers")
    assert ctypes.c_int64.from_address(first).value == 6
    assert imported == ctypes.cast(ctypes.CDLL(None).labs, ctypes.c_void_p).value
    assert absent == 0


@runs_x86_64
def test_an_absolute_symbol_is_not_moved(load):
    obj = loading("absolute", GOTPCREL)
    data = obj.section(".data", bytes(8), A | W)
    obj.symbol("pointer", data)
    obj.relocate(data, 0, ABS64, obj.symbol("absolute"), 6)
    constant = Object()
    constant.symbol("absolute", SpecialSection.ABS, 1234)
    library = load(obj, constant)
    assert call(library, "get") == 1234
    assert ctypes.c_int64.in_dll(library, "pointer").value == 1240
    assert ".rela.dyn" not in sections(link_elf([obj.build(), constant.build()]))


@runs_x86_64
def test_zeroed_and_common_storage_is_writable_and_apart(load):
    obj = Object()
    bss = obj.section(".bss", flags=A | W, type=SectionType.NOBITS, size=5000, alignment=32)
    obj.symbol("zeroed", bss)
    obj.symbol("common", SpecialSection.COMMON, 16, size=8)
    larger = Object()
    larger.symbol("common", SpecialSection.COMMON, 64, size=8000)
    library = load(obj, larger)
    zeroed = (ctypes.c_char * 5000).in_dll(library, "zeroed")
    common = (ctypes.c_char * 8000).in_dll(library, "common")
    assert bytes(zeroed) == bytes(5000)
    assert bytes(common) == bytes(8000)
    ctypes.memset(common, 1, 8000)
    assert bytes(zeroed) == bytes(5000)
    assert ctypes.addressof(common) % 64 == 0


@runs_x86_64
@pytest.mark.parametrize("strong_first", [True, False])
def test_a_strong_definition_wins_over_a_weak_one(load, strong_first):
    objects = [returning(1), returning(2, binding=Binding.WEAK)]
    assert call(load(calling("f"), *objects[:: 1 if strong_first else -1]), "caller") == 1


@runs_x86_64
def test_of_comdat_copies_the_first_is_kept(load):
    def copy(value: int) -> Object:
        obj = returning(value)
        obj.groups.append((1, [1]))
        unwind = obj.section(".eh_frame", bytes(16), A)
        obj.relocate(unwind, 8, PC32, 1)
        return obj

    assert call(load(calling("f"), copy(1), copy(2)), "caller") == 1


@runs_x86_64
def test_constructors_run_in_order_of_priority(load):
    obj = Object()
    cell = obj.section(".bss", flags=A | W, type=SectionType.NOBITS, size=8)
    obj.symbol("cell", cell, kind=SymbolKind.OBJECT)
    for section, digit in ((".init_array", 3), (".init_array.200", 2), (".init_array.101", 1)):
        # imul rax, [rip+cell], 10; add rax, digit; mov [rip+cell], rax; ret
        code = b"\x48\x6b\x05\0\0\0\0\x0a\x48\x83\xc0" + bytes([digit]) + b"\x48\x89\x05\0\0\0\0\xc3"
        text = obj.section(".text", code)
        obj.relocate(text, 3, PC32, 1, -5)
        obj.relocate(text, 15, PC32, 1, -4)
        array = obj.section(section, bytes(8), A | W, SectionType.INIT_ARRAY)
        obj.relocate(array, 0, ABS64, obj.symbol(f"init{digit}", text))
    assert ctypes.c_int64.in_dll(load(obj), "cell").value == 123


@runs_x86_64
def test_only_what_is_exported_can_be_found(load):
    library = load(returning(1), returning(2, "g"), returning(3, "h", visibility=Visibility.HIDDEN))
    assert (call(library, "f"), call(library, "g"), hasattr(library, "h")) == (1, 2, False)
    library = load(returning(1), returning(2, "g"), exports=["g"])
    assert (hasattr(library, "f"), call(library, "g")) == (False, 2)


@runs_x86_64
def test_every_one_of_many_names_can_be_found(load):
    library = load(*(returning(i, f"name_{i}") for i in range(300)))
    assert [call(library, f"name_{i}") for i in range(300)] == list(range(300))
    assert not hasattr(library, "name_300")


@runs_x86_64
def test_a_library_that_is_needed_is_loaded_too(load):
    with pytest.raises(OSError, match="libsurely-absent"):
        load(returning(1), needed=("libsurely-absent.so.1",))


def headers(library: bytes) -> list[tuple[int, ...]]:
    header = FileHeader.unpack(memoryview(library)[:64])
    start = header.program_headers_offset
    table = library[start : start + header.num_program_headers * PROGRAM_HEADER.size]
    return list(PROGRAM_HEADER.iter_unpack(table))


def sections(library: bytes) -> dict[str, SectionHeader]:
    header = FileHeader.unpack(memoryview(library)[:64])
    start = header.section_headers_offset
    table = [SectionHeader(*f) for f in struct.iter_unpack("<IIQQQQIIQQ", library[start:])]
    names = table[header.section_names_index]
    text = library[names.offset : names.offset + names.size]
    return {text[s.name : text.index(b"\0", s.name)].decode(): s for s in table}


def addresses(library: bytes) -> dict[str, int]:
    found = sections(library)
    table, strings = found[".dynsym"], found[".dynstr"]
    text = library[strings.offset : strings.offset + strings.size]
    records = SYMBOL.iter_unpack(library[table.offset : table.offset + table.size])
    return {text[r[0] : text.index(b"\0", r[0])].decode(): r[4] for r in records}


@pytest.mark.parametrize(("machine", "page"), [(Machine.X86_64, 0x1000), (Machine.AARCH64, 0x10000)])
def test_segments_are_as_a_loader_wants_them(machine, page):
    obj = Object(machine)
    obj.symbol("f", obj.section(".text", bytes(5000)))
    obj.symbol("d", obj.section(".data", bytes(100), A | W))
    obj.symbol("z", obj.section(".bss", b"", A | W, SectionType.NOBITS, size=70000))
    library = link_elf([obj.build()], soname="libx.so")
    loads = [h for h in headers(library) if h[0] == SegmentType.LOAD]
    end = 0
    for _, flags, offset, address, _, file_size, memory_size, alignment in loads:
        assert alignment == page
        assert address % page == offset % page
        assert address // page * page >= end
        assert offset + file_size <= len(library)
        assert not (flags & SegmentFlag.W and flags & SegmentFlag.X)
        end = -(-(address + memory_size) // page) * page
    assert [h[1] for h in headers(library) if h[0] == SegmentType.GNU_STACK] == [
        SegmentFlag.R | SegmentFlag.W
    ]
    (relro,) = (h for h in headers(library) if h[0] == SegmentType.GNU_RELRO)
    assert (relro[3] + relro[6]) % page == 0
    assert len(library) < 8000


def test_the_dynamic_section_names_the_library_and_what_it_needs():
    library = link_elf([returning(1).build()], soname="libx.so", needed=("liba.so", "libb.so"))
    found = sections(library)
    dynamic, strings = found[".dynamic"], found[".dynstr"]
    entries = list(struct.iter_unpack("<QQ", library[dynamic.offset : dynamic.offset + dynamic.size]))
    text = library[strings.offset : strings.offset + strings.size]
    named = [
        (tag, text[value : text.index(b"\0", value)])
        for tag, value in entries
        if tag in (DynamicTag.SONAME, DynamicTag.NEEDED)
    ]
    assert named == [
        (DynamicTag.NEEDED, b"liba.so"),
        (DynamicTag.NEEDED, b"libb.so"),
        (DynamicTag.SONAME, b"libx.so"),
    ]


def test_the_same_objects_give_the_same_bytes():
    objects = [o.build() for o in (calling("labs"), loading("f", GOTPCREL), returning(3), returning(4, "g"))]
    assert link_elf(objects) == link_elf(objects)


def signed(value: int, num_bits: int) -> int:
    return value - (1 << num_bits) if value >> (num_bits - 1) else value


def adrp_target(word: int, place: int) -> int:
    pages = signed((word >> 5 & 0x7FFFF) << 2 | (word >> 29 & 3), 21)
    return (place & ~0xFFF) + (pages << 12)


@pytest.mark.parametrize(("section", "flags"), [(".rodata", A), (".data", A | W)], ids=["behind", "ahead"])
def test_aarch64_instructions_reach_what_they_name(section, flags):
    # adrp x0, d; add x0, x0, d; ldrb, ldrh, ldr w, ldr x, ldr q; bl g; b labs; adrp x1, GOT(labs); ldr x1
    words = [0x90000000, 0x91000000, 0x39400001, 0x79400001, 0xB9400001, 0xF9400001, 0x3DC00001]
    words += [0x94000000, 0x14000000, 0x90000001, 0xF9400021]
    obj = Object(Machine.AARCH64)
    text = obj.section(".text", struct.pack("<11I", *words), alignment=4)
    obj.symbol("f", text)
    datum, g, labs = obj.symbol("d"), obj.symbol("g"), obj.symbol("labs")
    kinds = [275, 277, 278, 284, 285, 286, 299, 283, 282, 311, 312]
    targets = [datum] * 7 + [g, labs, labs, labs]
    for index, (kind, target) in enumerate(zip(kinds, targets, strict=True)):
        obj.relocate(text, 4 * index, kind, target)
    other = Object(Machine.AARCH64)
    other.symbol("g", other.section(".text", bytes(8), alignment=4), 4)
    other.symbol("d", other.section(section, bytes(2016), flags, alignment=16), 2000)
    library = link_elf([obj.build(), other.build()])

    at, found = addresses(library), sections(library)
    code = found[".text"]
    offset = code.offset + at["f"] - code.address
    w = struct.unpack("<11I", library[offset : offset + 44])
    place = [at["f"] + 4 * i for i in range(11)]
    page, within = at["d"] & ~0xFFF, at["d"] & 0xFFF
    assert adrp_target(w[0], place[0]) == page
    assert [(w[i] >> 10 & 0xFFF) << s for i, s in zip(range(1, 7), (0, 0, 1, 2, 3, 4), strict=True)] == [
        within
    ] * 6
    assert place[7] + 4 * signed(w[7] & 0x3FFFFFF, 26) == at["g"]

    stub = place[8] + 4 * signed(w[8] & 0x3FFFFFF, 26)
    assert stub == found[".plt"].address
    s = struct.unpack("<4I", library[found[".plt"].offset : found[".plt"].offset + 16])
    slot = found[".got"].address + 8
    assert adrp_target(s[0], stub) + 8 * (s[1] >> 10 & 0xFFF) == slot
    assert adrp_target(w[9], place[9]) + 8 * (w[10] >> 10 & 0xFFF) == slot
    relocations = found[".rela.dyn"]
    glob_dat = struct.unpack("<QQq", library[relocations.offset : relocations.offset + 24])
    assert (glob_dat[0], glob_dat[1] & 0xFFFFFFFF, glob_dat[2]) == (slot, 1025, 0)
    # Bits that are not the immediate's stay.
    assert [x & 0x9F00001F for x in (w[0], w[9])] == [0x90000000, 0x90000001]
    assert [x & ~(0xFFF << 10) for x in w[1:7]] == words[1:7]


def with_relocation(relocation: int, *, machine: Machine = Machine.X86_64, **symbol: int) -> Object:
    obj = Object(machine)
    text = obj.section(".text.hot", bytes(16))
    obj.relocate(text, 4, relocation, obj.symbol("thing", **symbol))
    return obj


def with_section(name: str, flags: int, **options: int) -> Object:
    obj = Object()
    obj.section(name, bytes(8), flags, **options)
    return obj


def misaligned() -> Object:
    return with_relocation(286, machine=Machine.AARCH64, section=1, value=4)


def outside() -> Object:
    obj = returning(1)
    obj.relocate(1, 3, PC32, 1)
    return obj


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (
            [with_relocation(77)],
            "type 77 against symbol 'thing' in section .text.hot of object 0 is not known",
        ),
        ([with_relocation(10)], "R_X86_64_32 against symbol 'thing' .* relocation model 'pic'"),
        ([with_relocation(11)], "R_X86_64_32S .* relocation model 'pic'"),
        ([with_relocation(258, machine=Machine.AARCH64)], "R_AARCH64_ABS32 .* relocation model 'pic'"),
        ([with_relocation(PC32)], "R_X86_64_PC32 against symbol 'thing' .* no object"),
        ([with_relocation(275, machine=Machine.AARCH64)], "R_AARCH64_ADR_PREL_PG_HI21 .* no object"),
        ([with_relocation(ABS64)], "R_X86_64_64 .* read-only section"),
        ([misaligned()], "R_AARCH64_LDST64_ABS_LO12_NC .* not aligned"),
        ([outside()], "R_X86_64_PC32 .* outside the section"),
        ([with_section(".tdata", A | W | SectionFlag.TLS)], r"\.tdata of object 0 is thread-local"),
        ([with_relocation(PC32, kind=SymbolKind.TLS)], "'thing' of object 0 is thread-local"),
        ([with_relocation(PC32, kind=SymbolKind.GNU_IFUNC)], "'thing' of object 0 is an indirect function"),
        ([with_section(".text", A | W | X)], "both writable and executable"),
        ([with_section(".ctors", A | W)], r"\.ctors of object 0 would never be run"),
        ([with_section(".data", A | W, alignment=1 << 20)], r"\.data asks for alignment to 1048576"),
        ([with_section(".data", A | W, alignment=24)], "aligned to 24"),
        ([with_section(".bss", A | W, type=SectionType.NOBITS, size=1 << 40)], "beyond the 2 GiB"),
        ([with_section(".odd", A, type=0x6000_0000)], r"\.odd of object 0 is of type 0x60000000"),
        ([returning(1), returning(2)], "'f' is defined twice, in object 0 and in object 1"),
        ([calling("f", visibility=Visibility.HIDDEN)], "'f' is hidden in object 0 and defined nowhere"),
        ([returning(1), Object(Machine.AARCH64)], "object 1 is for aarch64, but the library for x86-64"),
        ([], "no object to link"),
    ],
)
def test_what_cannot_be_linked_is_refused_by_name(objects, message):
    with pytest.raises(CompileError, match=message):
        link_elf([obj.build() for obj in objects])


def test_an_export_that_is_not_there_is_refused():
    with pytest.raises(CompileError, match="'g' is to be exported"):
        link_elf([returning(1).build()], exports=["f", "g"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ELF64"),
        (b"\x7fELF\x01" + bytes(100), "not an ELF64"),
        (MAGIC, "cut short: the file header"),
        (FileHeader(3, 62).pack(), "no relocatable object: its e_type is 3"),
        (FileHeader(1, 8).pack(), "ELF machine 8"),
        (FileHeader(1, 62).pack(), "no section table"),
        (FileHeader(1, 62, num_sections=3, section_headers_offset=64).pack(), "cut short: the section table"),
    ],
)
def test_what_is_no_object_is_refused(data, message):
    with pytest.raises(CompileError, match=f"object 0 .*{message}"):
        link_elf([data])


WHOLE = calling("f").build()


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=8), st.booleans())
def test_a_damaged_object_is_refused_or_linked_but_never_crashes(position, noise, cut):
    damaged = WHOLE[:position] if cut else WHOLE[:position] + noise + WHOLE[position + len(noise) :]
    with contextlib.suppress(CompileError):
        assert link_elf([damaged]).startswith(b"\x7fELF")


@pytest.mark.parametrize(
    ("triple", "message"),
    [
        ("x86_64-pc-windows-msvc", "Windows is not supported"),
        ("riscv64-unknown-linux-gnu", "'riscv64' .* not one of"),
        ("x86_64-unknown-haiku", "none of the systems"),
        ("aarch64-unknown-linux-gnu", "object 0 is for x86-64, but the library for aarch64"),
    ],
)
def test_a_triple_that_cannot_be_served_is_refused(triple, message):
    with pytest.raises(CompileError, match=message):
        link_shared([returning(1).build()], triple)


def test_linking_for_macos_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CompileError, match=r"pip install '\.\[cross\]'"):
        link_shared([b""], "arm64-apple-macos")


@pytest.mark.parametrize(
    ("triple", "needs_libm"),
    [("x86_64-linux-gnu", True), ("x86_64-unknown-linux", True), ("x86_64-alpine-linux-musl", False)],
)
def test_glibc_libraries_ask_for_libm(triple, needs_libm):
    assert (b"libm.so.6" in link_shared([returning(1).build()], triple)) is needs_libm
