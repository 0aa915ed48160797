"""From a module to a plan of launches and the program of its kernels."""

from __future__ import annotations

import msgspec

from ...ir import Module
from ...ir.errors import CompileError
from ...targets.launch_plan import LaunchPlan, TokenChoice
from .kernel import DeviceFunction
from .machine import Machine
from .planning import Planning
from .probes import plan_probes
from .rules import RULES
from .token_choice import plan_drawn, plan_likeliest

__all__ = ["plan_step"]


def plan_step(
    module: Module, machine: Machine, modules: tuple[str, ...] = ()
) -> tuple[LaunchPlan, tuple[DeviceFunction, ...]]:
    """The step of ``module`` as launches, with those that choose tokens of its logits and those that measure
    the device, and the kernels launched, which will be in files ``modules``.

    Raises :class:`CompileError` for an operator, or operands, that have no kernel on ``machine``.
    """
    if module.stage not in ("paged", "ragged"):
        raise CompileError(f"only paged and ragged modules can be planned, not one at stage {module.stage}")
    planning = Planning(module.forward, machine, {**RULES, **machine.rules})
    plan, functions = planning.run(modules)
    if module.stage == "ragged":
        return plan, functions
    choice = TokenChoice(likeliest=planning.apart(plan_likeliest), drawn=planning.apart(plan_drawn))
    plan = msgspec.structs.replace(plan, choice=choice, probes=plan_probes(planning))
    return plan, planning.functions
