"""The link: read, resolve, plan relocations, lay out, patch, write.

After J. R. Levine, "Linkers and Loaders" (1999), and the System V ABI. It links as ``ld -shared -Bsymbolic
-z now -z relro`` does and in no other way, which is what makes it this small.
"""

from collections.abc import Collection, Sequence

from ...ir.errors import CompileError
from .aarch64 import AARCH64
from .dynamic import DynamicNames, dynamic_entries, eh_frame_header, pack_dynamic
from .elf import FILE_HEADER, RELA, FileHeader, FileType, Machine, SectionHeader, SectionType, align_up
from .layout import Layout, assign_addresses, collect_sections
from .machine import MachineRules
from .objects import read_object
from .relocate import Plan, apply_relocations, plan_relocations
from .symbols import Definition, Program, resolve
from .x86_64 import X86_64

__all__ = ["link_elf"]

_MACHINES = {rules.machine: rules for rules in (X86_64, AARCH64)}
_EH_FRAME_HEADER_SIZE = 8
_EH_FRAME_END = 4


def link_elf(
    objects: Sequence[bytes],
    *,
    soname: str = "",
    exports: Collection[str] | None = None,
    needed: Sequence[str] = (),
    machine: Machine | None = None,
) -> bytes:
    """Link relocatable ELF64 objects of one machine, x86-64 or aarch64, into a shared library.

    Names that no object defines are left to the dynamic loader. All others are bound inside the library. The
    result depends on the arguments only; the library's stack is not executable, and no page of it is both
    writable and executable.

    Args:
        objects: the objects' contents, in link order.
        soname: the library's own name (``DT_SONAME``); none if empty.
        exports: the names to show to others; None for every global name of default visibility.
        needed: libraries to load with this one (``DT_NEEDED``), such as ``("libm.so.6",)``.
        machine: what the objects must be for; None for what the first is for.

    Raises:
        CompileError: an object is malformed or of another machine, a name is defined twice, an export is
            defined nowhere, or there is a relocation or construct that a library linked here cannot have.
    """
    if not objects:
        raise CompileError("there is no object to link.")
    files = [read_object(data, f"object {index}") for index, data in enumerate(objects)]
    wanted = machine or files[0].machine
    for file in files:
        if file.machine is not wanted:
            raise CompileError(
                f"{file.name} is for {_name(file.machine)}, but the library for {_name(wanted)}."
            )
    rules = _MACHINES[wanted]
    program = resolve(files)
    plan = plan_relocations(program, rules)
    names = DynamicNames.create(
        list(program.imports.values()), _select_exports(program, exports), soname, needed
    )
    layout = _lay_out(program, plan, names, rules)
    return _write(program, plan, names, layout, rules)


def _name(machine: Machine) -> str:
    return machine.name.lower().replace("_", "-")


def _select_exports(program: Program, exports: Collection[str] | None) -> list[Definition]:
    shown = program.exported()
    if exports is None:
        return shown
    missing = sorted(set(exports) - {symbol.name for symbol in shown})
    if missing:
        raise CompileError(f"symbol '{missing[0]}' is to be exported, but no object defines it visibly.")
    return [symbol for symbol in shown if symbol.name in set(exports)]


def _lay_out(program: Program, plan: Plan, names: DynamicNames, rules: MachineRules) -> Layout:
    reserved = {
        ".gnu.hash": len(names.hash_table()),
        ".dynsym": names.symbol_table_size,
        ".dynstr": len(names.strings),
        ".rela.dyn": plan.num_dynamic * RELA.size,
        ".eh_frame_hdr": _EH_FRAME_HEADER_SIZE,
        ".eh_frame": _EH_FRAME_END,
        ".plt": len(plan.stubs) * rules.stub_size,
        ".got": plan.table_size,
    }
    # How long .dynamic is depends on which other sections there are.
    layout = collect_sections(program, reserved | {".dynamic": 1})
    layout.sections[".dynamic"].size = len(pack_dynamic(dynamic_entries(names, layout, 0)))
    assign_addresses(layout, rules.page_size)
    return layout


def _write(program: Program, plan: Plan, names: DynamicNames, layout: Layout, rules: MachineRules) -> bytes:
    image = bytearray(layout.file_size)
    for section in layout.sections.values():
        for key in section.pieces:
            piece = program.section(key).data
            at = layout.offset_of(key)
            image[at : at + len(piece)] = piece
    relocations = apply_relocations(image, program, plan, layout, rules, names.symbol_indices())
    num_relative = sum(relocation.type == rules.relative for relocation in relocations)
    contents = {
        ".gnu.hash": names.hash_table(),
        ".dynsym": names.symbol_table(layout),
        ".dynstr": names.strings,
        ".rela.dyn": b"".join(relocation.pack() for relocation in relocations),
        ".eh_frame_hdr": eh_frame_header(layout),
        ".dynamic": pack_dynamic(dynamic_entries(names, layout, num_relative)),
        # Index 0 of the table is by both psABIs the address of .dynamic.
        ".got": layout.sections[".dynamic"].address.to_bytes(8, "little"),
    }
    for name, data in contents.items():
        if data:
            at = layout.sections[name].offset
            image[at : at + len(data)] = data
    return _with_headers(image, layout, rules.machine)


def _with_headers(image: bytearray, layout: Layout, machine: Machine) -> bytes:
    """Put the file and program headers at the front, section names and headers at the end."""
    names = [*layout.sections, ".shstrtab"]
    name_offsets, strings = {}, b"\0"
    for name in names:
        name_offsets[name] = len(strings)
        strings += name.encode() + b"\0"
    headers = [SectionHeader()]
    for section in layout.sections.values():
        headers.append(
            SectionHeader(
                name=name_offsets[section.name],
                type=section.type,
                flags=section.flags,
                address=section.address,
                offset=section.offset,
                size=section.size,
                link=layout.index_of(section.link) or 0 if section.link else 0,
                # In .dynsym, the index of the first symbol that is not local.
                info=1 if section.type == SectionType.DYNSYM else 0,
                alignment=section.alignment,
                entry_size=section.entry_size,
            )
        )
    headers.append(
        SectionHeader(
            name_offsets[".shstrtab"], SectionType.STRTAB, offset=len(image), size=len(strings), alignment=1
        )
    )
    table_offset = align_up(len(image) + len(strings), 8)
    file_header = FileHeader(
        type=FileType.DYN,
        machine=machine,
        program_headers_offset=FILE_HEADER.size,
        section_headers_offset=table_offset,
        num_program_headers=len(layout.program_headers),
        num_sections=len(headers),
        section_names_index=len(headers) - 1,
    )
    front = file_header.pack() + b"".join(header.pack() for header in layout.program_headers)
    image[: len(front)] = front
    return b"".join(
        [
            image,
            strings,
            bytes(table_offset - len(image) - len(strings)),
            *(header.pack() for header in headers),
        ]
    )
