"""What a user chooses about quantizing, checked before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..ir.errors import CompileError, RequestError
from ..passes import Assignment, find_assignment, read_topology
from ..passes.calibration import METHODS
from ..targets.sizes import parse_size

__all__ = ["AUTO", "CALIBRATION_TOKENS", "Budget", "QuantizeOptions"]

AUTO = "auto"
"""What stands for formats that are chosen."""


CALIBRATION_TOKENS = 8192
"""Tokens of a text that weights are calibrated on, where nobody says how many."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What formats are chosen for: at most so many bytes of weights, or a divergence in nats, or both."""

    max_bytes: int | None
    max_divergence: float | None


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """The options about quantizing of :func:`.compiler.compile_model`, made sense of.

    ``assignment`` None quantizes nothing, unless formats are to be chosen for a ``budget``; the choice is
    written to ``write_topology``. ``work_dir`` None is a folder beside the artifact, which is gone
    when that is written. ``name`` is for the manifest.
    """

    name: str
    assignment: Assignment | None
    method: str
    calibrate: Path | None
    calibration_tokens: int
    work_dir: Path | None
    budget: Budget | None = None
    write_topology: Path | None = None

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
        size: str | int | None = None,
        kl: float | None = None,
        write_topology: Path | None = None,
    ) -> QuantizeOptions:
        """Raises :class:`CompileError` naming the option that is wrong and what it can be.

        With a text to calibrate on and no method that is ``gptq``, without either ``rtn``.
        """
        budget = _parse_budget(quant, topology, size, kl, write_topology)
        if budget is not None:
            assignment: Assignment | None = None
        elif topology is not None:
            assignment = read_topology(topology, default=quant)
        else:
            assignment = find_assignment(quant)
        chosen = method or ("gptq" if calibrate is not None else "rtn")
        if chosen not in METHODS:
            raise CompileError(f"no method '{chosen}' to quantize by; methods: {', '.join(METHODS)}")
        if METHODS[chosen].reads_text and calibrate is None:
            raise CompileError(f"{chosen} looks at what a text makes of a model: give one to calibrate on")
        if calibrate is not None and not METHODS[chosen].reads_text:
            raise CompileError(f"{chosen} reads no text: leave the one to calibrate on away, or the method")
        if (calibrate is not None or method not in (None, "rtn")) and assignment is None and budget is None:
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
            budget=budget,
            write_topology=write_topology,
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


def _parse_budget(
    quant: str, topology: Path | None, size: str | int | None, kl: float | None, write_topology: Path | None
) -> Budget | None:
    """What ``auto`` chooses for; None for any other ``quant``."""
    if quant != AUTO:
        given = {"size": size, "kl": kl, "write_topology": write_topology}
        for name, value in given.items():
            if value is not None:
                raise CompileError(
                    f"{name} is for formats that are chosen: quant must be {AUTO}, not {quant}"
                )
        return None
    if topology is not None:
        raise CompileError(f"{AUTO} chooses the formats of all weights, so a topology has nothing to say")
    if size is None and kl is None:
        raise CompileError(f"{AUTO} needs a bound: size, as '2.5GiB', or kl, as 0.02 nats, or both")
    if kl is not None and not kl > 0:
        raise CompileError(f"kl must be above zero, not {kl}")
    try:
        max_bytes = None if size is None else parse_size(size, name="size")
    except RequestError as error:
        raise CompileError(str(error)) from None
    return Budget(max_bytes, kl)
