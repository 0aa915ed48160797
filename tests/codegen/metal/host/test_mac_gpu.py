"""Kernels one by one, as ``test_on_a_mac.py`` runs them, on the fake of a Mac."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .. import running, test_products
from ..emulated import compile_shaders
from .mac import Mac, needs_compiler
from .mac_gpu import MacGpu


@needs_compiler
@pytest.mark.slow
def test_products_go_by_the_device(
    mac: Mac, own_host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KnownGpu(MacGpu):
        def __init__(self, text: str, folder: Path) -> None:
            mac.knows(text, compile_shaders(text, folder))
            super().__init__(text, folder)

    monkeypatch.setattr(running, "machine", KnownGpu)
    random, launches = np.random.default_rng(3), mac.count("launches")
    weight = random.normal(size=(test_products.OUTPUTS, 45)).astype(np.float32)
    rows = random.normal(size=(test_products.ROWS, 45)).astype(np.float32)
    expected, many, few = test_products.run_both(tmp_path, weight, rows, None, True)
    np.testing.assert_allclose(many, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(few, expected[:5], rtol=1e-4, atol=1e-4)
    assert mac.count("launches") > launches
    MacGpu.opened.pop().close()
    assert mac.complaints == []
    assert mac.count("living_objects") == 0
