"""Relocation, in two walks over the same list.

The first (:func:`plan_relocations`) finds how many slots, stubs and dynamic relocations there will be, which
layout needs to know; the second (:func:`apply_relocations`) patches the image once addresses are known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ...ir.errors import CompileError
from .elf import Rela, SectionFlag
from .layout import Layout
from .machine import Formula, MachineRules, Rule
from .symbols import Definition, Import, Program, SectionKey

__all__ = ["Patch", "Plan", "apply_relocations", "plan_relocations"]

_PAGE_MASK = ~0xFFF
_SLOT_SIZE = 8


class Patch(NamedTuple):
    """One relocation, bound to what its symbol stands for."""

    section: SectionKey
    offset: int
    rule: Rule
    target: Definition | Import
    addend: int


@dataclass(slots=True)
class Plan:
    """What relocation will do and what it needs.

    ``slots`` gives each target its index in the global offset table (the psABIs reserve index 0 for the
    address of ``_DYNAMIC``), ``stubs`` gives each imported function that is called its index in ``.plt``.
    """

    patches: list[Patch] = field(default_factory=list)
    slots: dict[Definition | Import, int] = field(default_factory=dict)
    stubs: dict[Import, int] = field(default_factory=dict)
    num_dynamic: int = 0

    @property
    def table_size(self) -> int:
        """Bytes of the global offset table."""
        return _SLOT_SIZE * (1 + len(self.slots))

    def add_slot(self, target: Definition | Import) -> None:
        """Give ``target`` a slot if it has none; the loader fills it unless its value is absolute."""
        if target not in self.slots:
            self.slots[target] = 1 + len(self.slots)
            self.num_dynamic += not _is_absolute(target)


def plan_relocations(program: Program, rules: MachineRules) -> Plan:
    """Bind every relocation of every kept section and count what it needs.

    Raises:
        CompileError: a relocation that is unknown, or that a shared library cannot have.
    """
    plan = Plan()
    for key in program.kept:
        section = program.section(key)
        writable = bool(section.flags & SectionFlag.WRITE)
        for relocation in section.relocations:
            target = program.target(key.object, relocation.symbol)
            rule = rules.rules.get(relocation.type)
            if rule is None:
                raise _error(program, key, f"type {relocation.type}", target, "is not known here")
            if _left_out(program, key, rule, target):
                continue
            _check(program, key, rule, target, writable)
            plan.patches.append(Patch(key, relocation.offset, rule, target, relocation.addend))
            if rule.formula.needs_slot:
                plan.add_slot(target)
            elif rule.formula is Formula.CALL and isinstance(target, Import):
                plan.add_slot(target)
                plan.stubs.setdefault(target, len(plan.stubs))
            elif rule.formula is Formula.ABSOLUTE and not _is_absolute(target):
                plan.num_dynamic += 1
    return plan


def _left_out(program: Program, key: SectionKey, rule: Rule, target: Definition | Import) -> bool:
    """Whether there is nothing to patch: no formula, or unwind data of a function whose other copy is kept.

    The latter keeps its zero, which unwinders take for a function that was removed.
    """
    if rule.formula is Formula.NOTHING:
        return True
    if isinstance(target, Import) or program.is_placed(target):
        return False
    if program.section(key).name != ".eh_frame":
        raise _error(program, key, rule.name, target, "refers into a section that is not in the library")
    return True


def _check(
    program: Program, key: SectionKey, rule: Rule, target: Definition | Import, writable: bool
) -> None:
    if rule.refusal:
        raise _error(program, key, rule.name, target, f"cannot be in a shared library: {rule.refusal}")
    if rule.formula.fixes_symbol and (isinstance(target, Import) or _is_absolute(target)):
        why = "needs a place in this library, where no object puts it; compile with relocation model 'pic'"
        raise _error(program, key, rule.name, target, why)
    if rule.formula is Formula.ABSOLUTE and not writable and not _is_absolute(target):
        raise _error(program, key, rule.name, target, "would have the loader write to a read-only section")


def _is_absolute(target: Definition | Import) -> bool:
    return isinstance(target, Definition) and target.section is None


def _error(
    program: Program, key: SectionKey, name: str, target: Definition | Import, why: str
) -> CompileError:
    symbol = target.name
    if not symbol and isinstance(target, Definition) and isinstance(target.section, SectionKey):
        symbol = program.section(target.section).name
    return CompileError(f"relocation {name} against symbol '{symbol}' in {program.describe(key)} {why}.")


def apply_relocations(
    image: bytearray,
    program: Program,
    plan: Plan,
    layout: Layout,
    rules: MachineRules,
    symbol_indices: Mapping[Import, int],
) -> list[Rela]:
    """Patch ``image``, fill slots and stubs, and return the relocations left to the dynamic loader.

    ``symbol_indices`` are the imports' places in the dynamic symbol table. Those relative to the load address
    come first, as ``DT_RELACOUNT`` wants; ``plan.num_dynamic`` is how many there are.

    Raises:
        CompileError: a value does not fit its field, or a relocation lies outside its section.
    """
    values = _Values(plan, layout, rules)
    dynamic: list[Rela] = []

    def leave_to_loader(address: int, target: Definition | Import, addend: int, import_type: int) -> None:
        if isinstance(target, Import):
            dynamic.append(Rela(address, symbol_indices[target] << 32 | import_type, addend))
        else:
            dynamic.append(Rela(address, rules.relative, values.symbol(target) + addend))

    for patch in plan.patches:
        place = layout.address_of(patch.section) + patch.offset
        num_bytes = patch.rule.field.num_bytes
        if patch.offset + num_bytes > len(program.section(patch.section).data):
            raise _error(program, patch.section, patch.rule.name, patch.target, "lies outside the section")
        if patch.rule.formula is Formula.ABSOLUTE and not _is_absolute(patch.target):
            leave_to_loader(place, patch.target, patch.addend, rules.absolute)
            continue
        value = values.compute(patch, place)
        at = layout.offset_of(patch.section) + patch.offset
        word = patch.rule.field.encode(int.from_bytes(image[at : at + num_bytes], "little"), value)
        if word is None:
            why = f"cannot hold {value:#x}, which is too far or not aligned"
            raise _error(program, patch.section, patch.rule.name, patch.target, why)
        image[at : at + num_bytes] = word.to_bytes(num_bytes, "little")

    for target, index in plan.slots.items():
        if _is_absolute(target):
            at = layout.sections[".got"].offset + _SLOT_SIZE * index
            image[at : at + _SLOT_SIZE] = values.symbol(target).to_bytes(_SLOT_SIZE, "little")
        else:
            leave_to_loader(values.slot(target), target, 0, rules.glob_dat)
    for target, index in plan.stubs.items():
        at = layout.sections[".plt"].offset + rules.stub_size * index
        image[at : at + rules.stub_size] = rules.stub(values.stub(target), values.slot(target))
    return sorted(dynamic, key=lambda r: (r.type != rules.relative, r.symbol, r.offset))


class _Values:
    """The letters of the formulas, as addresses."""

    def __init__(self, plan: Plan, layout: Layout, rules: MachineRules) -> None:
        self._plan = plan
        self._layout = layout
        self._rules = rules
        self._table = layout.sections[".got"].address
        self._formulas: Mapping[Formula, Callable[[Definition | Import, int, int], int]] = {
            Formula.ABSOLUTE: lambda t, a, p: self.symbol(t) + a,
            Formula.LOW_BITS: lambda t, a, p: self.symbol(t) + a,
            Formula.RELATIVE: lambda t, a, p: self.symbol(t) + a - p,
            Formula.PAGE_RELATIVE: lambda t, a, p: (self.symbol(t) + a & _PAGE_MASK) - (p & _PAGE_MASK),
            Formula.CALL: lambda t, a, p: (self.stub(t) if isinstance(t, Import) else self.symbol(t)) + a - p,
            Formula.SLOT_LOW_BITS: lambda t, a, p: self.slot(t) + a,
            Formula.SLOT_RELATIVE: lambda t, a, p: self.slot(t) + a - p,
            Formula.SLOT_PAGE_RELATIVE: lambda t, a, p: (self.slot(t) + a & _PAGE_MASK) - (p & _PAGE_MASK),
            Formula.TABLE_RELATIVE: lambda t, a, p: self._table + a - p,
            Formula.TABLE_OFFSET: lambda t, a, p: self.symbol(t) + a - self._table,
        }

    def compute(self, patch: Patch, place: int) -> int:
        return self._formulas[patch.rule.formula](patch.target, patch.addend, place)

    def symbol(self, target: Definition | Import) -> int:
        if isinstance(target, Import):
            raise TypeError(f"'{target.name}' has no address before it is loaded")
        return self._layout.address_of(target.section) + target.value

    def slot(self, target: Definition | Import) -> int:
        return self._table + _SLOT_SIZE * self._plan.slots[target]

    def stub(self, target: Import) -> int:
        return self._layout.sections[".plt"].address + self._rules.stub_size * self._plan.stubs[target]
