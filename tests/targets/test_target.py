"""Targets by name, and which of them a host runs."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingot.ir.errors import CompileError
from ingot.targets import CPUS, Host, Target, detect_host, parse_target, supported_targets

ALL_FEATURES = frozenset().union(*(target.features for target in CPUS.values()))


def host(features: frozenset[str], system: str = "Linux", machine: str = "x86_64") -> Host:
    return Host(system, machine, "a processor", features, 2, 2**33)


@pytest.mark.parametrize("name", CPUS)
def test_every_name_is_that_of_its_target(name: str) -> None:
    target = parse_target(f"cpu:{name}")
    assert target.name == f"cpu:{name}"
    assert parse_target(f"cpu:{name}", host(frozenset())) is target


def test_library_names_differ_and_are_plain_file_names() -> None:
    names = [target.library_name for target in CPUS.values()]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").replace(".", "").isalnum() for name in names)
    assert parse_target("cpu:x86-64-v3").library_name == "cpu-x86-64-v3.so"
    assert parse_target("cpu:apple-m1").library_name == "cpu-apple-m1.dylib"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu:z80", "no target 'cpu:z80'; CPUs are x86-64-v3, .*, apple-m2$"),
        ("cpu:CPU", "no target 'cpu:CPU'"),
        ("x86-64-v3", "no target 'x86-64-v3'; write cpu, cpu:NAME with one of x86-64-v3, "),
        ("", "no target ''; write cpu"),
        ("CPU", "no target 'CPU'; write cpu"),
        ("metal:m1", "no target 'metal:m1'; write cpu, cpu:NAME"),
    ],
)
def test_what_is_no_target(text: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        parse_target(text)


@given(st.text(max_size=20))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    if text in ("cpu", "cpu:", *(f"cpu:{name}" for name in CPUS)):
        assert isinstance(parse_target(text, host(ALL_FEATURES)), Target)
    else:
        with pytest.raises(CompileError, match=re.escape(f"target '{text}'")):
            parse_target(text, host(ALL_FEATURES))


@pytest.mark.parametrize("name", CPUS)
def test_a_target_needs_each_of_its_features(name: str) -> None:
    target = CPUS[name]
    fitting = host(target.features, target.system, target.machine)
    assert target.runs_on(fitting)
    assert target.features
    for feature in target.features:
        assert not target.runs_on(dataclasses.replace(fitting, features=target.features - {feature}))
    assert not target.runs_on(dataclasses.replace(fitting, machine="riscv64"))
    assert not target.runs_on(dataclasses.replace(fitting, system="Plan 9"))


@given(st.frozensets(st.sampled_from(sorted(ALL_FEATURES))))
def test_cpu_is_the_best_that_fits(features: frozenset[str]) -> None:
    here = host(features)
    fitting = supported_targets(here)
    assert set(fitting) == {target for target in CPUS.values() if target.runs_on(here)}
    assert [target.rank for target in fitting] == sorted((t.rank for t in fitting), reverse=True)
    if fitting:
        assert parse_target("cpu", here) is fitting[0]
    else:
        with pytest.raises(CompileError, match="this host has none of the instruction sets"):
            parse_target("cpu", here)


def test_wider_instruction_sets_rank_above_those_they_hold() -> None:
    for one in CPUS.values():
        for other in CPUS.values():
            if (one.system, one.machine) == (other.system, other.machine) and one.features < other.features:
                assert one.rank < other.rank, (one.name, other.name)


def test_this_host_runs_its_own_targets() -> None:
    for target in supported_targets(detect_host()):
        assert target.runs_on(detect_host())
