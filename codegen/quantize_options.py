"""What a user chooses about quantizing, checked before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..ir.errors import CompileError
from ..passes import Assignment, find_assignment, read_topology
from ..passes.calibration import METHODS

__all__ = ["CALIBRATION_TOKENS", "QuantizeOptions"]

CALIBRATION_TOKENS = 8192
"""Tokens of a text that weights are calibrated on, where nobody says how many."""


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """The options about quantizing of :func:`.compiler.compile_model`, made sense of.

    ``assignment`` None quantizes nothing. ``work_dir`` None is a folder beside the artifact, which is gone
    when that is written. ``name`` is for the manifest.
    """

    name: str
    assignment: Assignment | None
    method: str
    calibrate: Path | None
    calibration_tokens: int
    work_dir: Path | None

    @classmethod
    def parse(
        cls,
        *,
        quant: str = "none",
        topology: Path | None = None,
        method: str | None = None,
        calibrate: Path | None = None,
        calibration_tokens: int = CALIBRATION_TOKENS,
        work_dir: Path | None = None,
    ) -> QuantizeOptions:
        """Raises :class:`CompileError` naming the option that is wrong and what it can be.

        With a text to calibrate on and no method that is ``gptq``, without either ``rtn``.
        """
        if topology is not None:
            assignment: Assignment | None = read_topology(topology, default=quant)
        else:
            assignment = find_assignment(quant)
        chosen = method or ("gptq" if calibrate is not None else "rtn")
        if chosen not in METHODS:
            raise CompileError(f"no method '{chosen}' to quantize by; methods: {', '.join(METHODS)}")
        if METHODS[chosen].reads_text and calibrate is None:
            raise CompileError(f"{chosen} looks at what a text makes of a model: give one to calibrate on")
        if calibrate is not None and not METHODS[chosen].reads_text:
            raise CompileError(f"{chosen} reads no text: leave the one to calibrate on away, or the method")
        if (calibrate is not None or method not in (None, "rtn")) and assignment is None:
            raise CompileError("nothing is quantized, so there is nothing to calibrate: choose a quant")
        if calibration_tokens < 1:
            raise CompileError(f"weights are calibrated on at least one token, not {calibration_tokens}")
        return cls(
            name=quant if topology is None else "topology",
            assignment=assignment,
            method=chosen,
            calibrate=calibrate,
            calibration_tokens=calibration_tokens,
            work_dir=work_dir,
        )

    @property
    def texts(self) -> tuple[Path, ...]:
        """Files that the artifact depends on."""
        return () if self.calibrate is None else (self.calibrate,)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of it in the manifest."""
        if self.method == "rtn":
            return ()
        on = f" on {self.calibrate.name}" if self.calibrate is not None else ""
        return (f"weights are quantized by {self.method}{on}",)
