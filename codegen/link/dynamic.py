"""What the dynamic loader reads: symbol table, names, hash table, the .dynamic section, the unwind header."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from .elf import SYMBOL, Binding, DynamicTag, SpecialSection, SymbolRecord
from .layout import Layout
from .symbols import Definition, Import

__all__ = ["DynamicNames", "dynamic_entries", "eh_frame_header", "pack_dynamic"]

_BIND_NOW = 8
_FLAGS_1_NOW = 1
_BLOOM_SHIFT = 26
_BLOOM_BITS_PER_NAME = 12


@dataclass(frozen=True, slots=True)
class DynamicNames:
    """The names a library shows and seeks, in the order of its dynamic symbol table.

    That is imports first, then exports by hash bucket, as ``.gnu.hash`` wants.
    """

    imports: tuple[Import, ...]
    exports: tuple[Definition, ...]
    soname: str
    needed: tuple[str, ...]
    strings: bytes
    num_buckets: int

    @classmethod
    def create(
        cls, imports: Sequence[Import], exports: Sequence[Definition], soname: str, needed: Sequence[str]
    ) -> Self:
        """Order the names and write their string table."""
        num_buckets = max(1, len(exports) // 2)
        ordered = sorted(exports, key=lambda e: (_gnu_hash(e.name) % num_buckets, e.name))
        by_name = sorted(imports, key=lambda i: i.name)
        names = [soname, *needed, *(i.name for i in by_name), *(e.name for e in ordered)]
        strings = b"\0" + b"".join(_encode(name) + b"\0" for name in dict.fromkeys(names) if name)
        return cls(tuple(by_name), tuple(ordered), soname, tuple(needed), strings, num_buckets)

    @property
    def symbol_table_size(self) -> int:
        """Bytes of ``.dynsym``."""
        return SYMBOL.size * (1 + len(self.imports) + len(self.exports))

    def offset_of(self, name: str) -> int:
        """Where the string table has ``name``."""
        return self.strings.index(b"\0" + _encode(name) + b"\0") + 1

    def symbol_indices(self) -> dict[Import, int]:
        """Each import's index in the symbol table."""
        return {symbol: index for index, symbol in enumerate(self.imports, start=1)}

    def symbol_table(self, layout: Layout) -> bytes:
        """The contents of ``.dynsym``."""
        offsets = self._offsets()
        records = [SymbolRecord()]
        for wanted in self.imports:
            binding = Binding.WEAK if wanted.weak else Binding.GLOBAL
            records.append(SymbolRecord(offsets[wanted.name], binding << 4))
        for shown in self.exports:
            binding = Binding.WEAK if shown.weak else Binding.GLOBAL
            records.append(
                SymbolRecord(
                    name=offsets[shown.name],
                    info=binding << 4 | shown.kind,
                    section=layout.index_of(shown.section) or SpecialSection.ABS,
                    value=layout.address_of(shown.section) + shown.value,
                    size=shown.size,
                )
            )
        return b"".join(record.pack() for record in records)

    def _offsets(self) -> dict[str, int]:
        offsets, position = {}, 1
        for name in self.strings[1:-1].split(b"\0"):
            offsets[name.decode("utf-8", "surrogateescape")] = position
            position += len(name) + 1
        return offsets

    def hash_table(self) -> bytes:
        """The contents of ``.gnu.hash``: a Bloom filter, the first symbol of each bucket, and all hashes."""
        hashes = [_gnu_hash(symbol.name) for symbol in self.exports]
        num_words = 1 << (len(hashes) * _BLOOM_BITS_PER_NAME // 64).bit_length()
        bloom = [0] * num_words
        buckets = [0] * self.num_buckets
        chain = []
        first = 1 + len(self.imports)
        for position, code in enumerate(hashes):
            bloom[code // 64 % num_words] |= 1 << code % 64 | 1 << (code >> _BLOOM_SHIFT) % 64
            bucket = code % self.num_buckets
            buckets[bucket] = buckets[bucket] or first + position
            is_last = position + 1 == len(hashes) or hashes[position + 1] % self.num_buckets != bucket
            chain.append(code & ~1 | is_last)
        return struct.pack(
            f"<4I{num_words}Q{self.num_buckets + len(chain)}I",
            self.num_buckets,
            first,
            num_words,
            _BLOOM_SHIFT,
            *bloom,
            *buckets,
            *chain,
        )


def dynamic_entries(names: DynamicNames, layout: Layout, num_relative: int) -> list[tuple[DynamicTag, int]]:
    """The tags and values of ``.dynamic``; how many there are does not depend on addresses."""
    entries = [(DynamicTag.NEEDED, names.offset_of(library)) for library in names.needed]
    if names.soname:
        entries.append((DynamicTag.SONAME, names.offset_of(names.soname)))
    for name, at, size in (
        (".init_array", DynamicTag.INIT_ARRAY, DynamicTag.INIT_ARRAYSZ),
        (".fini_array", DynamicTag.FINI_ARRAY, DynamicTag.FINI_ARRAYSZ),
    ):
        if name in layout.sections:
            entries += [(at, layout.sections[name].address), (size, layout.sections[name].size)]
    entries += [
        (DynamicTag.GNU_HASH, layout.sections[".gnu.hash"].address),
        (DynamicTag.STRTAB, layout.sections[".dynstr"].address),
        (DynamicTag.SYMTAB, layout.sections[".dynsym"].address),
        (DynamicTag.STRSZ, layout.sections[".dynstr"].size),
        (DynamicTag.SYMENT, SYMBOL.size),
    ]
    if ".rela.dyn" in layout.sections:
        relocations = layout.sections[".rela.dyn"]
        entries += [
            (DynamicTag.RELA, relocations.address),
            (DynamicTag.RELASZ, relocations.size),
            (DynamicTag.RELAENT, relocations.entry_size),
            (DynamicTag.RELACOUNT, num_relative),
        ]
    entries += [(DynamicTag.FLAGS, _BIND_NOW), (DynamicTag.FLAGS_1, _FLAGS_1_NOW), (DynamicTag.NULL, 0)]
    return entries


def pack_dynamic(entries: Sequence[tuple[DynamicTag, int]]) -> bytes:
    """The contents of ``.dynamic``."""
    return b"".join(struct.pack("<QQ", tag, value) for tag, value in entries)


def eh_frame_header(layout: Layout) -> bytes:
    """The contents of ``.eh_frame_hdr``, by which unwinders find ``.eh_frame``.

    The search table is optional and left out: unwinding through a kernel is for debuggers and crash reports.
    """
    pc_relative_int32, omitted = 0x1B, 0xFF
    distance = layout.sections[".eh_frame"].address - (layout.sections[".eh_frame_hdr"].address + 4)
    return struct.pack("<4Bi", 1, pc_relative_int32, omitted, omitted, distance)


def _gnu_hash(name: str) -> int:
    code = 5381
    for byte in _encode(name):
        code = (code * 33 + byte) & 0xFFFFFFFF
    return code


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
