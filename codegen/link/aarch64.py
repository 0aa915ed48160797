"""aarch64 by "ELF for the Arm 64-bit Architecture" (2023Q3, section 5.7)."""

import struct

from .elf import Machine
from .machine import WORD32, WORD64, Field, Formula, MachineRules, Rule, fits_signed

__all__ = ["AARCH64"]

_PAGE_BITS = 12
_NARROW = "an address of 64 bits does not fit it; compile with relocation model 'pic'"


def _branch(num_bits: int, low_bit: int) -> Field:
    """A distance in instructions, of ``num_bits`` bits from ``low_bit`` up."""
    mask = ((1 << num_bits) - 1) << low_bit

    def encode(word: int, value: int) -> int | None:
        if value % 4 or not fits_signed(value, num_bits + 2):
            return None
        return (word & ~mask) | ((value >> 2 << low_bit) & mask)

    return Field(4, encode)


def _adr(shift: int) -> Field:
    """The 21 bits of ADR and ADRP, the two low ones apart from the others."""

    def encode(word: int, value: int) -> int | None:
        return _with_adr(word, value >> shift) if fits_signed(value >> shift, 21) else None

    return Field(4, encode)


def _with_adr(word: int, immediate: int) -> int:
    return (word & 0x9F00001F) | (immediate & 3) << 29 | ((immediate >> 2) & 0x7FFFF) << 5


def _low_bits(access_bits: int) -> Field:
    """The page offset that ADD, or an access to ``1 << access_bits`` bytes, has in bits 10 to 21."""

    def encode(word: int, value: int) -> int | None:
        offset = value & 0xFFF
        return None if offset & ((1 << access_bits) - 1) else _with_offset(word, offset >> access_bits)

    return Field(4, encode)


def _with_offset(word: int, offset: int) -> int:
    return (word & ~(0xFFF << 10)) | offset << 10


_RULES = {
    0: Rule("R_AARCH64_NONE", Formula.NOTHING, WORD32),
    256: Rule("R_AARCH64_NONE", Formula.NOTHING, WORD32),
    257: Rule("R_AARCH64_ABS64", Formula.ABSOLUTE, WORD64),
    258: Rule("R_AARCH64_ABS32", Formula.ABSOLUTE, WORD32, _NARROW),
    260: Rule("R_AARCH64_PREL64", Formula.RELATIVE, WORD64),
    261: Rule("R_AARCH64_PREL32", Formula.RELATIVE, WORD32),
    273: Rule("R_AARCH64_LD_PREL_LO19", Formula.RELATIVE, _branch(19, 5)),
    274: Rule("R_AARCH64_ADR_PREL_LO21", Formula.RELATIVE, _adr(0)),
    275: Rule("R_AARCH64_ADR_PREL_PG_HI21", Formula.PAGE_RELATIVE, _adr(_PAGE_BITS)),
    277: Rule("R_AARCH64_ADD_ABS_LO12_NC", Formula.LOW_BITS, _low_bits(0)),
    278: Rule("R_AARCH64_LDST8_ABS_LO12_NC", Formula.LOW_BITS, _low_bits(0)),
    279: Rule("R_AARCH64_TSTBR14", Formula.RELATIVE, _branch(14, 5)),
    280: Rule("R_AARCH64_CONDBR19", Formula.RELATIVE, _branch(19, 5)),
    282: Rule("R_AARCH64_JUMP26", Formula.CALL, _branch(26, 0)),
    283: Rule("R_AARCH64_CALL26", Formula.CALL, _branch(26, 0)),
    284: Rule("R_AARCH64_LDST16_ABS_LO12_NC", Formula.LOW_BITS, _low_bits(1)),
    285: Rule("R_AARCH64_LDST32_ABS_LO12_NC", Formula.LOW_BITS, _low_bits(2)),
    286: Rule("R_AARCH64_LDST64_ABS_LO12_NC", Formula.LOW_BITS, _low_bits(3)),
    299: Rule("R_AARCH64_LDST128_ABS_LO12_NC", Formula.LOW_BITS, _low_bits(4)),
    311: Rule("R_AARCH64_ADR_GOT_PAGE", Formula.SLOT_PAGE_RELATIVE, _adr(_PAGE_BITS)),
    312: Rule("R_AARCH64_LD64_GOT_LO12_NC", Formula.SLOT_LOW_BITS, _low_bits(3)),
    314: Rule("R_AARCH64_PLT32", Formula.CALL, WORD32),
    315: Rule("R_AARCH64_GOTPCREL32", Formula.SLOT_RELATIVE, WORD32),
}


def _stub(address: int, slot: int) -> bytes:
    # adrp x16, slot; ldr x17, [x16, :lo12:slot]; br x17; nop
    adrp = _with_adr(0x90000010, (slot >> _PAGE_BITS) - (address >> _PAGE_BITS))
    load = _with_offset(0xF9400211, (slot & 0xFFF) >> 3)
    return struct.pack("<4I", adrp, load, 0xD61F0220, 0xD503201F)


AARCH64 = MachineRules(
    machine=Machine.AARCH64,
    # The largest page a Linux kernel for aarch64 uses, so that the library loads on all of them.
    page_size=0x10000,
    rules=_RULES,
    absolute=257,
    glob_dat=1025,
    relative=1027,
    stub_size=16,
    stub=_stub,
)
