"""A whole model whose products are AMX', emulated where this machine lacks it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import ingot
from ingot.runtime.execution import artifact
from ingot.targets import CPUS, detect_host

from ..compiled import WHOLE_GROUPS, compile_tiny
from ..emulator.emulator import EMULATED_FEATURES, find_emulator

TARGETS = ("cpu:x86-64-v4-vnni", "cpu:sapphirerapids")


def test_codes_give_the_same_bits_by_tiles(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, emulator = detect_host(), find_emulator()
    if isinstance(emulator, str):
        pytest.skip(emulator)
    if not CPUS["sapphirerapids"].features <= host.features | EMULATED_FEATURES:
        pytest.skip("needs AVX-512 with VNNI and BF16")
    folder = compile_tiny(
        "llama", tmp_path_factory.getbasetemp(), quant="int4_g32_i5", targets=TARGETS, **WHOLE_GROUPS
    )
    scores = []
    for name in TARGETS:
        alike = replace(host, features=CPUS[name.removeprefix("cpu:")].features)
        monkeypatch.setattr(artifact, "detect_host", lambda alike=alike: alike)
        with emulator, ingot.Engine(folder) as engine:
            scores.append(np.asarray(engine.score(list(range(3, 40)))))
            if name == "cpu:sapphirerapids" and emulator.stands_in_for("amx_int8"):
                assert emulator.counts()["tdpbssd"] > 0
    np.testing.assert_array_equal(*scores)
