"""What the tests of exactness measured, as they wrote it down in ``checked.json``.

Nothing in that file is written by hand. The tests in ``tests/exactness`` fill it in where they are run with
``--update-checked``, and so does ``tests/exactness/try_architectures.py``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["CHECKED", "TOLERANCE", "Checked", "CheckedArchitecture", "CheckedFamily", "read_checked"]

CHECKED = Path(__file__).with_name("checked.json")

TOLERANCE = 1e-4
"""How far log-probabilities in float32 may be from those of ``transformers``."""


class CheckedFamily(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A family that is defined here, compiled in float32 and compared with ``transformers``.

    Attributes:
        layers: the kinds of layers that its compiled models have.
        native: for each setting that was tried, the largest difference of any log-probability, or, for a
            model that gives vectors, of any element, relative to the largest.
        export: likewise of the model as it is traced, or the sentence it is refused with.
    """

    layers: tuple[str, ...] = ()
    native: dict[str, float] = {}
    export: dict[str, float | str] = {}


class CheckedArchitecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model type of ``transformers``, traced with one tiny configuration.

    Attributes:
        interpreted: the largest difference of any log-probability, by the interpreter.
        compiled: likewise as compiled.
        why: what stands in the way of either, empty where nothing does.
        has_states: whether it keeps a state from token to token that is neither keys nor values.
        is_built: whether ``transformers`` builds it at all, of a tiny configuration and by itself.
    """

    interpreted: float | None = None
    compiled: float | None = None
    why: str = ""
    has_states: bool = False
    is_built: bool = True

    @property
    def matches(self) -> bool:
        """Whether it was compiled and is within :data:`TOLERANCE`."""
        return self.compiled is not None and self.compiled <= TOLERANCE


class Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was measured, by ``model_type``.

    Attributes:
        transformers: the version it was compared with.
        families: those that are defined here.
        architectures: all causal language models of that version, as they are traced.
    """

    transformers: str
    families: dict[str, CheckedFamily] = {}
    architectures: dict[str, CheckedArchitecture] = {}


def read_checked(path: Path = CHECKED) -> Checked:
    """What was measured."""
    return msgspec.json.decode(path.read_bytes(), type=Checked)
