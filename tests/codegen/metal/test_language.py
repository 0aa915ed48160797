"""What Metal refuses is refused here: by a lint of the text, by clang, and by the limits of Apple's GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ingot.codegen.gpu.kernel import DeviceFunction, source_of
from ingot.codegen.metal.limits import check_limits, shared_bytes
from ingot.codegen.metal.machine import METAL
from ingot.ir.errors import CompileError

from .lint import lint
from .strict_clang import needs_clang, problems

TEMPLATES = source_of((), METAL)


def kernel(body: str, parameters: tuple[str, ...] = ("GLOBAL float* out",), threads: int = 64) -> str:
    return source_of([DeviceFunction("tried", parameters, body, threads)], METAL)


def test_templates_are_metals() -> None:
    assert lint(TEMPLATES) == []


@pytest.mark.parametrize(
    ("addition", "complaint"),
    [
        ("INGOT_DEVICE long long f(int x) { return x; }", "no long long"),
        ("INGOT_DEVICE float f(float x) { double y = x; return y; }", "no double"),
        ("INGOT_DEVICE float f(float x) { return x * 0.5; }", "'0.5': there is no double"),
        ("INGOT_DEVICE int f(int x) { auto g = [&](int y) { return y; }; return g(x); }", "no lambdas"),
        ("INGOT_DEVICE int f(int x) { return x < 1 ? 0 : f(x - 1); }", "f calls itself"),
        ("INGOT_DEVICE int f(int x) { int half = x / 2; return half; }", "'half' is a word"),
        ("INGOT_DEVICE int f(Here here) { return here.thread(); }", "'thread' is a word"),
        ("struct T {};\nstruct S : T {};", "no derived classes"),
        ("INGOT_DEVICE int f(int x) noexcept { return x; }", "'noexcept': it is left out"),
        ("constexpr int SIZE = 3;", "SIZE: constants"),
        ("struct S {\n  static constexpr int SIZE = 3;\n};", "SIZE: constants"),
        ("INGOT_DEVICE int f(int x) { SHARED_ARRAY(int, y, [2]); return x; }", "f: only kernels declare"),
    ],
)
def test_the_lint_sees(addition: str, complaint: str) -> None:
    assert any(complaint in found for found in lint(f"{TEMPLATES}\nnamespace ingot {{\n{addition}\n}}\n"))


@needs_clang
def test_clang_takes_the_templates_and_a_kernel() -> None:
    assert (
        problems(kernel("out[here.thread_index()] = float(num_rows);", ("GLOBAL float* out", "int num_rows")))
        == []
    )


@needs_clang
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("float* p = out; p[0] = 1;", "no address space is named"),
        ("SHARED float* p = out; p[0] = 1;", "cannot initialize"),
        ("SHARED_ARRAY(float, x, [4]); OWN float* p = x; out[0] = p[0];", "cannot initialize"),
        ("float x[8]; out[0] = sum_of_block(here, x, 1.0f);", "no matching function"),
        ("OWN const float& x = out[0]; out[1] = x;", "binding reference"),
        ("int half = 3; out[0] = float(half);", "cannot combine"),
    ],
)
def test_clang_sees(body: str, complaint: str) -> None:
    found = problems(kernel(body))
    assert any(complaint in problem for problem in found), found


def test_limits_are_reached_and_not_passed() -> None:
    most = DeviceFunction(
        "most",
        tuple(f"GLOBAL float* x{number}" for number in range(31)),
        "SHARED_ARRAY(float, a, [64][64]); SHARED_ARRAY(int, b, [4092]); SHARED_ARRAY(signed char, c, [3]);",
        1024,
    )
    assert shared_bytes(most) == 32 << 10
    check_limits(most)


@pytest.mark.parametrize(
    ("parameters", "body", "threads", "sentence"),
    [
        (32, "", 32, "kernel tried has 32 arguments; Metal binds at most 31"),
        (1, "", 1056, "kernel tried has 1056 threads in a threadgroup; Metal runs at most 1024"),
        (1, "SHARED_ARRAY(float, a, [8193]);", 32, r"kernel tried shares 32784 bytes .* Metal has 32768"),
        (1, "SHARED_ARRAY(float, a, [SIZE]);", 32, r"the size of a \(float \[SIZE\]\) must be numbers"),
        (1, "SHARED_ARRAY(float, a[3]);", 32, "a SHARED_ARRAY has not the form"),
    ],
)
def test_what_is_beyond_is_refused(parameters: int, body: str, threads: int, sentence: str) -> None:
    names = tuple(f"GLOBAL float* x{number}" for number in range(parameters))
    with pytest.raises(CompileError, match=sentence):
        source_of([DeviceFunction("tried", names, body, threads)], METAL)


def test_numbers_are_bound_as_bytes_and_arrays_as_buffers() -> None:
    text = kernel("out[0] = float(n);", ("GLOBAL float* out", "int n"))
    assert "GLOBAL float* out [[buffer(0)]], constant int& n [[buffer(1)]]" in text
    assert "max_total_threads_per_threadgroup(64)" in text


@needs_clang
def test_what_is_drawn_with_has_the_size_it_is_counted_with() -> None:
    drawing = DeviceFunction("tried", ("GLOBAL float* out",), "SHARED_ARRAY(Drawing, own, [1]);", 32)
    claim = f'static_assert(sizeof(ingot::Drawing) == {shared_bytes(drawing)}, "as counted");'
    assert problems(f"{TEMPLATES}\n{claim}\n") == []


def test_sources_are_listed_once() -> None:
    assert [path.name for path in METAL.sources] == ["products.metal", "attention.metal", "probes.metal"]
    folder = Path(METAL.header).parent
    assert {path.name for path in folder.iterdir()} == {
        METAL.header.name,
        *(path.name for path in METAL.sources),
    }
