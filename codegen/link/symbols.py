"""Symbol resolution: which sections take part in the link, and what each name stands for.

Of several definitions of a name a strong one wins over a common one, that over a weak one; of several weak
ones the first wins, of several common ones the largest. Two strong ones are an error. A name that nobody
defines is imported: the dynamic loader finds it when the library is loaded. Names that are defined are bound
inside the library, as by ``-Bsymbolic``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...ir.errors import CompileError
from .elf import Binding, SectionFlag, SectionType, SpecialSection, SymbolKind, Visibility
from .objects import InputSection, InputSymbol, ObjectFile

__all__ = ["LINKER_SYMBOLS", "Definition", "Import", "Program", "SectionKey", "resolve"]

LINKER_SYMBOLS: Mapping[str, str] = {"_DYNAMIC": ".dynamic", "_GLOBAL_OFFSET_TABLE_": ".got"}
"""Names that the linker itself defines, hidden, as the start of an output section."""

_CONFINEMENT = (Visibility.DEFAULT, Visibility.PROTECTED, Visibility.HIDDEN, Visibility.INTERNAL)
_NEVER_RUN = (".ctors", ".dtors", ".preinit_array")
_KEPT_TYPES = frozenset(
    {
        SectionType.PROGBITS,
        SectionType.NOBITS,
        SectionType.INIT_ARRAY,
        SectionType.FINI_ARRAY,
        SectionType.X86_64_UNWIND,
    }
)


class SectionKey(NamedTuple):
    """An input section: index of the object, and of the section in it."""

    object: int
    section: int


@dataclass(frozen=True, slots=True)
class Definition:
    """What a symbol defined in this library stands for: ``value`` bytes into ``section``.

    That is an input section, the name of an output section, or None where the value is absolute.
    """

    name: str
    section: SectionKey | str | None
    value: int
    size: int = 0
    kind: SymbolKind = SymbolKind.NOTYPE
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Import:
    """A symbol for the dynamic loader to find; a weak one may stay absent and is then zero."""

    name: str
    weak: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    symbol: InputSymbol
    object: int

    @property
    def rank(self) -> int:
        if self.symbol.section == SpecialSection.COMMON:
            return 1
        return 0 if self.symbol.binding == Binding.WEAK else 2


@dataclass(slots=True)
class Program:
    """All objects with their names resolved.

    ``objects`` ends with one made here that holds a ``NOBITS`` section for each common symbol; ``kept`` is an
    ordered set.
    """

    objects: list[ObjectFile]
    kept: dict[SectionKey, None] = field(default_factory=dict)
    discarded: set[SectionKey] = field(default_factory=set)
    definitions: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, Import] = field(default_factory=dict)
    visibility: dict[str, Visibility] = field(default_factory=dict)

    def section(self, key: SectionKey) -> InputSection:
        """The input section at ``key``."""
        return self.objects[key.object].sections[key.section]

    def describe(self, key: SectionKey) -> str:
        """What errors call an input section."""
        return f"section {self.section(key).name} of {self.objects[key.object].name}"

    def target(self, object_index: int, symbol_index: int) -> Definition | Import:
        """What the symbol that a relocation names stands for."""
        symbol = self.objects[object_index].symbols[symbol_index]
        if symbol.binding == Binding.LOCAL:
            return _definition(symbol, object_index)
        return self.definitions.get(symbol.name) or self.imports[symbol.name]

    def exported(self) -> list[Definition]:
        """The definitions that other libraries may see, by name."""
        visible = (Visibility.DEFAULT, Visibility.PROTECTED)
        names = sorted(name for name in self.definitions if self.visibility[name] in visible)
        return [self.definitions[name] for name in names if self.is_placed(self.definitions[name])]

    def is_placed(self, definition: Definition) -> bool:
        """Whether the section of ``definition`` is in the library, as that of a debug symbol is not."""
        return not isinstance(definition.section, SectionKey) or definition.section in self.kept


def resolve(objects: Sequence[ObjectFile]) -> Program:
    """Choose the sections to keep and bind every global name.

    Raises:
        CompileError: a name defined twice, a hidden one not defined, or a construct this linker does not do.
    """
    program = Program(list(objects))
    _choose_sections(program)
    winners = _choose_definitions(program)
    _allot_commons(program, winners)
    for name, winner in winners.items():
        program.definitions.setdefault(name, _definition(winner.symbol, winner.object))
    _find_imports(program)
    return program


def _choose_sections(program: Program) -> None:
    signatures: set[str] = set()
    for index, obj in enumerate(program.objects):
        for group in obj.groups:
            if group.signature in signatures:
                program.discarded.update(SectionKey(index, member) for member in group.members)
            signatures.add(group.signature)
        for number, section in enumerate(obj.sections):
            key = SectionKey(index, number)
            # Notes describe one object (its build, its CPU properties) and would be wrong for the whole.
            if not section.flags & SectionFlag.ALLOC or section.type == SectionType.NOTE:
                continue
            if key not in program.discarded:
                _check_section(program, key)
                program.kept[key] = None


def _check_section(program: Program, key: SectionKey) -> None:
    section = program.section(key)
    where = program.describe(key)
    if section.flags & SectionFlag.TLS:
        raise CompileError(
            f"{where} is thread-local storage, which is not supported; use a global or a parameter."
        )
    if section.flags & SectionFlag.WRITE and section.flags & SectionFlag.EXECINSTR:
        raise CompileError(f"{where} is both writable and executable, which a library here never is.")
    if section.name.startswith(_NEVER_RUN):
        raise CompileError(f"{where} would never be run; emit constructors to .init_array and .fini_array.")
    if section.type not in _KEPT_TYPES:
        raise CompileError(f"{where} is of type {section.type:#x}, which is not known here.")


def _choose_definitions(program: Program) -> dict[str, _Candidate]:
    winners: dict[str, _Candidate] = {}
    for index, obj in enumerate(program.objects):
        for symbol in obj.symbols:
            if symbol.kind in (SymbolKind.TLS, SymbolKind.GNU_IFUNC):
                kind = "thread-local" if symbol.kind == SymbolKind.TLS else "an indirect function"
                raise CompileError(f"symbol '{symbol.name}' of {obj.name} is {kind}, which is not supported.")
            if symbol.binding == Binding.LOCAL:
                continue
            seen = program.visibility.get(symbol.name, Visibility.DEFAULT)
            program.visibility[symbol.name] = max(seen, symbol.visibility, key=_CONFINEMENT.index)
            replaced = SectionKey(index, symbol.section) in program.discarded
            if symbol.section == SpecialSection.UNDEF or replaced:
                continue
            candidate = _Candidate(symbol, index)
            winners[symbol.name] = _winner(program, winners.get(symbol.name), candidate)
    return winners


def _winner(program: Program, old: _Candidate | None, new: _Candidate) -> _Candidate:
    if old is None or new.rank > old.rank:
        return new
    if old.rank == new.rank == 2:
        first, second = program.objects[old.object].name, program.objects[new.object].name
        raise CompileError(f"symbol '{new.symbol.name}' is defined twice, in {first} and in {second}.")
    if old.rank == new.rank == 1 and new.symbol.size > old.symbol.size:
        return new
    return old


def _allot_commons(program: Program, winners: dict[str, _Candidate]) -> None:
    commons = [w.symbol for w in winners.values() if w.symbol.section == SpecialSection.COMMON]
    sections = tuple(
        # A common symbol's value is its alignment.
        InputSection(
            name=".bss.COMMON",
            type=SectionType.NOBITS,
            flags=SectionFlag.ALLOC | SectionFlag.WRITE,
            alignment=max(symbol.value, 1),
            size=symbol.size,
            data=memoryview(b""),
        )
        for symbol in commons
    )
    index = len(program.objects)
    machine = program.objects[0].machine
    program.objects.append(ObjectFile("the common symbols", machine, sections, ()))
    for number, symbol in enumerate(commons):
        key = SectionKey(index, number)
        program.kept[key] = None
        program.definitions[symbol.name] = Definition(symbol.name, key, 0, symbol.size, SymbolKind.OBJECT)


def _find_imports(program: Program) -> None:
    for index, obj in enumerate(program.objects):
        for symbol in obj.symbols[1:]:
            if symbol.binding == Binding.LOCAL or symbol.name in program.definitions:
                continue
            if symbol.name in LINKER_SYMBOLS:
                program.visibility[symbol.name] = Visibility.HIDDEN
                program.definitions[symbol.name] = Definition(symbol.name, LINKER_SYMBOLS[symbol.name], 0)
                continue
            if program.visibility[symbol.name] in (Visibility.HIDDEN, Visibility.INTERNAL):
                raise CompileError(
                    f"symbol '{symbol.name}' is hidden in {program.objects[index].name} and defined nowhere."
                )
            known = program.imports.get(symbol.name)
            weak = symbol.binding == Binding.WEAK and (known is None or known.weak)
            program.imports[symbol.name] = Import(symbol.name, weak)


def _definition(symbol: InputSymbol, object_index: int) -> Definition:
    absolute = symbol.section in (SpecialSection.ABS, SpecialSection.UNDEF)
    return Definition(
        name=symbol.name,
        section=None if absolute else SectionKey(object_index, symbol.section),
        value=symbol.value,
        size=symbol.size,
        kind=symbol.kind,
        weak=symbol.binding == Binding.WEAK,
    )
