"""x86-64 by its psABI (version 1.0, section 4.4)."""

import struct

from .elf import Machine
from .machine import WORD32, WORD64, Formula, MachineRules, Rule

__all__ = ["X86_64"]

_NARROW = "an address of 64 bits does not fit it; compile with relocation model 'pic'"

_RULES = {
    0: Rule("R_X86_64_NONE", Formula.NOTHING, WORD32),
    1: Rule("R_X86_64_64", Formula.ABSOLUTE, WORD64),
    2: Rule("R_X86_64_PC32", Formula.RELATIVE, WORD32),
    4: Rule("R_X86_64_PLT32", Formula.CALL, WORD32),
    9: Rule("R_X86_64_GOTPCREL", Formula.SLOT_RELATIVE, WORD32),
    10: Rule("R_X86_64_32", Formula.ABSOLUTE, WORD32, _NARROW),
    11: Rule("R_X86_64_32S", Formula.ABSOLUTE, WORD32, _NARROW),
    24: Rule("R_X86_64_PC64", Formula.RELATIVE, WORD64),
    25: Rule("R_X86_64_GOTOFF64", Formula.TABLE_OFFSET, WORD64),
    26: Rule("R_X86_64_GOTPC32", Formula.TABLE_RELATIVE, WORD32),
    28: Rule("R_X86_64_GOTPCREL64", Formula.SLOT_RELATIVE, WORD64),
    29: Rule("R_X86_64_GOTPC64", Formula.TABLE_RELATIVE, WORD64),
    # The X forms permit a linker to turn the load into an address computation; the load is right too.
    41: Rule("R_X86_64_GOTPCRELX", Formula.SLOT_RELATIVE, WORD32),
    42: Rule("R_X86_64_REX_GOTPCRELX", Formula.SLOT_RELATIVE, WORD32),
    43: Rule("R_X86_64_CODE_4_GOTPCRELX", Formula.SLOT_RELATIVE, WORD32),
}

_STUB = struct.Struct("<2si2s")


def _stub(address: int, slot: int) -> bytes:
    # jmp *slot(%rip); xchg %ax, %ax
    return _STUB.pack(b"\xff\x25", slot - (address + 6), b"\x66\x90")


X86_64 = MachineRules(
    machine=Machine.X86_64,
    page_size=0x1000,
    rules=_RULES,
    absolute=1,
    glob_dat=6,
    relative=8,
    stub_size=_STUB.size,
    stub=_stub,
)
