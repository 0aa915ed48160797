"""The code that CONTRIBUTING shows is code of the files it names."""

from __future__ import annotations

import re

import pytest

from .tree import ROOT

_SHOWN = re.findall(
    r"^```python\n# (\S+)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize(("path", "code"), _SHOWN, ids=[path for path, _ in _SHOWN])
def test_what_is_shown_is_in_the_file(path: str, code: str) -> None:
    assert code in (ROOT / path).read_text(), f"{path} has changed: show what it has now"


def test_both_walks_are_shown() -> None:
    assert len(_SHOWN) >= 10
