"""What a machine has to say to the linker: its relocations, its dynamic relocations, its call stub.

A relocation is a formula and a field. Formulas are the psABIs' own, in their letters: S is the symbol's
address, A the addend, P the place that is patched, L the symbol's call stub, G its slot in the global
offset table, GOT that table's start, and Page(x) the 4 KiB page of x.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from .elf import Machine

__all__ = ["WORD32", "WORD64", "Field", "Formula", "MachineRules", "Rule", "fits_signed"]


class Formula(Enum):
    """What a relocation computes."""

    ABSOLUTE = "S + A"
    LOW_BITS = "(S + A) within its page"
    RELATIVE = "S + A - P"
    PAGE_RELATIVE = "Page(S + A) - Page(P)"
    CALL = "L + A - P"
    SLOT_LOW_BITS = "(G + A) within its page"
    SLOT_RELATIVE = "G + A - P"
    SLOT_PAGE_RELATIVE = "Page(G + A) - Page(P)"
    TABLE_RELATIVE = "GOT + A - P"
    TABLE_OFFSET = "S + A - GOT"
    NOTHING = "nothing"

    @property
    def needs_slot(self) -> bool:
        """Whether the symbol needs a slot in the global offset table."""
        return self in _SLOT_FORMULAS

    @property
    def fixes_symbol(self) -> bool:
        """Whether the symbol's distance must be known when linking, so that it cannot be imported."""
        return self in _FIXING_FORMULAS


_SLOT_FORMULAS = frozenset({Formula.SLOT_LOW_BITS, Formula.SLOT_RELATIVE, Formula.SLOT_PAGE_RELATIVE})
_FIXING_FORMULAS = frozenset(
    {Formula.LOW_BITS, Formula.RELATIVE, Formula.PAGE_RELATIVE, Formula.TABLE_OFFSET}
)


@dataclass(frozen=True, slots=True)
class Field:
    """Where a value goes: ``encode(old word, value)`` is the new word, or None if the value does not fit."""

    num_bytes: int
    encode: Callable[[int, int], int | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One relocation type; ``refusal``, where not empty, says why a shared library cannot have it."""

    name: str
    formula: Formula
    field: Field
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class MachineRules:
    """A machine: ``page_size`` in bytes, relocation types, and the stub that calls through a slot.

    ``stub(stub address, slot address)`` gives ``stub_size`` bytes. ``absolute``, ``glob_dat`` and
    ``relative`` are the types of its dynamic relocations.
    """

    machine: Machine
    page_size: int
    rules: Mapping[int, Rule]
    absolute: int
    glob_dat: int
    relative: int
    stub_size: int
    stub: Callable[[int, int], bytes]


def fits_signed(value: int, num_bits: int) -> bool:
    """Whether ``value`` is a two's complement number of ``num_bits`` bits."""
    return -(1 << (num_bits - 1)) <= value < 1 << (num_bits - 1)


def _signed_word(num_bytes: int) -> Field:
    mask = (1 << (8 * num_bytes)) - 1
    return Field(num_bytes, lambda _, value: value & mask if fits_signed(value, 8 * num_bytes) else None)


WORD32 = _signed_word(4)
WORD64 = Field(8, lambda _, value: value & 0xFFFFFFFFFFFFFFFF)
