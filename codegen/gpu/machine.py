"""A kind of GPU: the language of its kernels, and what of them is its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .kernel import DeviceFunction

if TYPE_CHECKING:
    from ...targets.launch_plan import Probe
    from .planning import Planning, Rule
    from .rules.attention import Attention
    from .rules.products import Product

__all__ = ["Machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What templates and rules that are written for any machine leave to one.

    Attributes:
        name: how it is called in messages.
        header: the file with what the machine does: where a thread runs, barriers, shuffles, mathematics.
        sources: files of templates of its own, which may use all shared ones.
        write_kernel: a function as the language has it, with ``here`` made of where it runs.
        rules: of its own by operator, which go before the shared ones.
        multiply_many: launches the product of more rows than few, where it has one for these weights that is
            faster; whether it did.
        attend: launches attention, where it has one for this that is faster; whether it did.
        plan_probes: launches by which benchmarks measure how fast it multiplies, by the name of what,
            of ``blocks`` and ``rounds``.
        few_rows: rows up to which a product is bound by reading the weights.
        joins_rows: whether kernels of rows that follow each other are one launch.
        rounds_rows: whether its products round rows of bfloat16 as they read them.
    """

    name: str
    header: Path
    sources: tuple[Path, ...]
    write_kernel: Callable[[DeviceFunction], str]
    rules: Mapping[str, Rule]
    multiply_many: Callable[[Planning, Product], bool]
    attend: Callable[[Planning, Attention], bool]

    plan_probes: Callable[[Planning], tuple[Probe, ...]] = lambda _: ()
    few_rows: int = 16
    joins_rows: bool = False
    rounds_rows: bool = False

    def __str__(self) -> str:
        return self.name
