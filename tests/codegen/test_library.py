"""Machine code needs no more of a processor than its target says."""

from __future__ import annotations

import pytest
import tvm
from ingot.codegen.kernels.isa import ISAS
from ingot.codegen.library import llvm_target
from ingot.targets import CPUS

LINUX_NAMES = {
    "bmi": "bmi1",
    "crc": "crc32",
    "crc32": "sse4_2",
    "dotprod": "asimddp",
    "lse": "atomics",
    "lzcnt": "abm",
    "neon": "asimd",
    "rdm": "asimdrdm",
    "sahf": "lahf_lm",
    "sse3": "pni",
}
"""Features by the names that LLVM gives them, where Linux has others than such as differ in a dash."""

EVERYWHERE = """
64bit 64bit_mode cmov cx8 fxsr mmx nopl sse sse2 x87
"""

NEVER_CHOSEN = """
adx aes ccpp cldemote clflushopt clwb contextidrel2 el2vmsa el3 enqcmd ete fsgsbase invpcid lor movdir64b
movdiri mwaitx pan pan_rwv pclmul pconfig pku prfchw ptwrite ras rdpid rdpru rdrnd rdseed serialize sha shstk
trbe tsxldtrk uaops uintr vh waitpkg wbnoinvd xsavec xsaveopt xsaves
"""
"""What LLVM uses only where a program asks for it by name: for systems, cryptography, caches."""

TUNING = ("fast_", "false_deps_", "fuse_", "slow_", "tuning_", "no_bypass_", "v8", "enable_select_opt")
TUNING += ("allow_light_256_bit", "branchfusion", "ermsb", "fsrm", "idivq_to_divl", "macrofusion")
TUNING += ("sbb_dep_breaking", "use_postra_scheduler", "vzeroupper", "fp_armv8")


@pytest.mark.parametrize("name", [name for name, target in CPUS.items() if target.system == "Linux"])
def test_a_target_requires_all_that_llvm_may_use(name: str) -> None:
    target = CPUS[name]
    features = tvm.get_global_func("target.llvm_get_cpu_features")(llvm_target(target))
    used = {LINUX_NAMES.get(str(feature), _plain(feature)) for feature in features}
    if target.machine == "aarch64":
        used |= {"asimdhp", "fphp"} if "fullfp16" in used else set()
        used.discard("fullfp16")
    required = {_plain(feature).replace("_", "") for feature in target.features}
    unforeseen = {
        feature
        for feature in used.difference(EVERYWHERE.split(), NEVER_CHOSEN.split())
        if not feature.startswith(TUNING) and feature.replace("_", "") not in required
    }
    assert not unforeseen


def _plain(feature: object) -> str:
    return str(feature).lower().replace("-", "_").replace(".", "_")


def test_every_instruction_set_is_some_targets() -> None:
    assert {target.isa for target in CPUS.values()} == set(ISAS)
