"""Machine code as a disassembler reads it: no library holds an instruction its target does not speak of."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from ingot.targets import CPUS, read_manifest

from ..compiled import WHOLE_GROUPS, compile_tiny

TARGETS = [target.name for target in CPUS.values() if target.system == "Linux"]

TRACES = {
    "x86_64": {
        r"\btmm[0-7]\b": "amx_tile",
        r"\btdpb(ss|su|us|uu)d\b": "amx_int8",
        r"\btdpbf16ps\b": "amx_bf16",
        r"\bzmm\d": "avx512f",
        r"\b[xyz]mm(1[6-9]|2\d|3[01])\b": "avx512vl",
        r"\{%?k[1-7]\}": "avx512f",
        r"\bvpdp(busd|wssd)s?\b.*zmm": "avx512_vnni",
        r"\bvpdp(busd|wssd)s?\b.*ymm": "avx_vnni or avx512_vnni",
        r"\bvdpbf16ps\b|\bvcvtne2?ps2bf16": "avx512_bf16",
        r"\bvperm[it]?2?b\b": "avx512vbmi",
        r"\bvpsh[lr]d": "avx512_vbmi2",
        r"\bvpopcnt[bw]\b": "avx512_bitalg",
        r"\bvpopcnt[dq]\b": "avx512_vpopcntdq",
        r"\bvpmadd52": "avx512ifma",
        r"\bv?gf2p8": "gfni",
        r"\bv(add|sub|mul|div|fn?m(add|sub)\d+)[ps]h\b": "avx512_fp16",
        r"\bymm\d": "avx",
        r"\bvp\w+\b.*ymm": "avx2",
        r"\bvfn?m(add|sub)\d+[ps][sd]\b": "fma",
        r"\bvcvtph2ps\b": "f16c",
        r"\blzcnt\b": "abm",
    },
    "aarch64": {
        r"\b[us]?us?mmla\b|\bsmmla\b": "i8mm",
        r"\bbfdot\b|\bbfmmla\b|\bbfcvt": "bf16",
        r"\b[us]dot\b": "asimddp",
        r"\bsqrdml[as]h\b": "asimdrdm",
        r"\bz\d+\.[bhsd]\b|\bp\d/[mz]\b": "sve",
        r"\bf(mla|mul|add)\b.*\.8h": "asimdhp",
    },
}
"""What in a line of assembly tells that a feature is used."""

MUST_SHOW = {
    "avx2": "avx2",
    "avx2-vnni": "avx_vnni or avx512_vnni",
    "avx512-vnni": "avx512_vnni",
    "avx512-bf16": "avx512_vnni",
    "avx512-amx": "amx_int8",
    "neon-dotprod": "asimddp",
    "neon-i8mm": "i8mm",
}
"""What products of whole rows of codes surely use, by instruction set."""


def disassembler(machine: str) -> list[str]:
    names = {"x86_64": ("objdump", "llvm-objdump"), "aarch64": ("aarch64-linux-gnu-objdump", "llvm-objdump")}
    found = next((name for name in names[machine] if shutil.which(name)), None)
    if found is None:
        pytest.skip(f"needs {' or '.join(names[machine])}")
    return [found, "-d", "--no-show-raw-insn"]


def features_shown(machine: str, library: Path) -> Counter[str]:
    """How many lines tell of each feature."""
    command = [*disassembler(machine), str(library)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) > 1000
    assert not any("(bad)" in line for line in lines)
    shown: Counter[str] = Counter()
    for trace, feature in TRACES[machine].items():
        shown[feature] += sum(re.search(trace, line) is not None for line in lines)
    return shown


@pytest.mark.slow
@pytest.mark.parametrize(("quant", "dtype"), [("int4_g32_i5", "float32"), ("none", "bfloat16")])
def test_libraries_hold_what_their_targets_require(
    tmp_path_factory: pytest.TempPathFactory, quant: str, dtype: str
) -> None:
    made = compile_tiny(
        "llama", tmp_path_factory.getbasetemp(), quant=quant, dtype=dtype, targets=TARGETS, **WHOLE_GROUPS
    )
    for library in read_manifest(made).libraries:
        shown = features_shown(library.machine, made / library.path)
        for feature, count in shown.items():
            required = set(feature.split(" or ")) & set(library.features)
            assert required or not count, f"{library.target}: {count} lines of {feature}"
        if quant != "none":
            isa = CPUS[library.target.removeprefix("cpu:")].isa
            assert shown[MUST_SHOW[isa]], f"{library.target} has none of its own instructions"
