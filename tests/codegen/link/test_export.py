"""What TVM compiles, linked here and loaded by TVM again."""

import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm
from ingot.codegen.link import export_executable, link_shared
from ingot.ir.errors import CompileError

HOST = f"{platform.machine()}-unknown-linux-gnu"
AARCH64_SYSROOT = Path("/usr/aarch64-linux-gnu")

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="loads ELF libraries")

RUN_IN_RUNTIME_ONLY = """
import sys
import numpy as np, tvm
from tvm.runtime.vm import VirtualMachine
vm = VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())
x = np.load(sys.argv[2])
np.save(sys.argv[3], vm["main"](tvm.runtime.tensor(x)).numpy())
"""

AARCH64_CALLER = """
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library) return puts(dlerror()), 1;
  long (*total)(const float *, const float *) = dlsym(library, "total");
  float x[3] = {1, 2, 3}, y[3] = {4, 5, 6};
  printf("%ld\\n", total(x, y));
  return dlclose(library);
}
"""

AARCH64_LIBRARY = """
#include <math.h>
static const float weights[3] = {1, 10, 100};
static const char *const names[2] = {"one", "three"};
int calls;
static double (*const table[2])(double) = {floor, ceil};
__attribute__((constructor)) static void init(void) { calls = 1000000; }
__attribute__((noinline)) static float one(float x, float y, int i) { return x * y * weights[i]; }
long total(const float *x, const float *y) {
  double sum = 0;
  for (int i = 0; i < 3; ++i) { sum += one(x[i], y[i], i); ++calls; }
  return (long)(table[1](sum + 0.25) + pow(sum, 0)) + calls + names[1][0];
}
"""


def kernels():
    """A Relax function of a parallel kernel, which calls into libm and the runtime, and of a constant."""
    from tvm.script import ir as I
    from tvm.script import relax as R
    from tvm.script import tirx as T

    @I.ir_module
    class Kernels:
        @T.prim_func(s_tir=True)
        def spread(self: T.Buffer((64, 33), "float32"), y: T.Buffer((64, 33), "float32")):
            T.func_attr({"tirx.noalias": True})
            for i in T.parallel(64):
                for j in range(33):
                    with T.sblock("spread"):
                        row, column = T.axis.remap("SS", [i, j])
                        y[row, column] = T.erf(self[row, column]) + T.pow(self[row, column], T.float32(2.5))

        @R.function
        def main(self: R.Tensor((64, 33), "float32")):
            cls = Kernels
            with R.dataflow():
                y = R.call_tir(cls.spread, (self,), out_ty=R.Tensor((64, 33), "float32"))
                z = R.add(y, R.const(np.arange(33, dtype="float32")))
                R.output(z)
            return z

    return Kernels


def compiled(triple: str):
    return tvm.compile(kernels(), tvm.target.Target({"kind": "llvm", "mtriple": triple, "num-cores": 2}))


@pytest.fixture(scope="module")
def executable():
    return compiled(HOST)


@pytest.fixture(scope="module")
def library(executable, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("link") / "kernels.so"
    export_executable(executable, path, HOST)
    return path


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).random((64, 33), dtype=np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf)(x) + x**2.5 + np.arange(33)


def test_the_library_runs_in_this_process(library, x):
    vm = tvm.relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    result = vm["main"](tvm.runtime.tensor(x)).numpy()
    np.testing.assert_allclose(result, expected(x), rtol=1e-5, atol=1e-5)


def test_the_library_runs_with_the_runtime_alone(library, x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    subprocess.run(
        [sys.executable, "-c", RUN_IN_RUNTIME_ONLY, library, tmp_path / "x.npy", tmp_path / "y.npy"],
        env=os.environ | {"TVM_USE_RUNTIME_LIB": "1"},
        check=True,
    )
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected(x), rtol=1e-5, atol=1e-5)


def test_no_program_is_started(executable, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    export_executable(executable, tmp_path / "kernels.so", HOST)


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_either_machine_is_linked_anywhere_and_always_to_the_same_bytes(architecture, tmp_path):
    triple = f"{architecture}-unknown-linux-gnu"
    built = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        export_executable(compiled(triple), folder / "kernels.so", triple)
        built.append((folder / "kernels.so").read_bytes())
    assert built[0] == built[1]
    assert built[0][18] == {"x86_64": 62, "aarch64": 183}[architecture]


def test_a_triple_the_executable_was_not_compiled_for_is_refused(executable, tmp_path):
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    with pytest.raises(CompileError, match=f"but the library for {other.replace('_', '-')}"):
        export_executable(executable, tmp_path / "kernels.so", f"{other}-unknown-linux-gnu")
    assert list(tmp_path.iterdir()) == []


def test_c_source_is_refused(tmp_path):
    executable = tvm.compile(kernels(), tvm.target.Target("c"))
    with pytest.raises(CompileError, match=r"'\.c' module, which only a C compiler could take"):
        export_executable(executable, tmp_path / "kernels.so", HOST)


def test_an_executable_without_code_of_its_own_is_linked(tmp_path):
    from tvm.script import ir as I
    from tvm.script import relax as R

    @I.ir_module
    class Calls:
        @R.function(pure=False)
        def main(self: R.Tensor((4,), "float32")):
            return R.call_packed("test_export.twice", self, ty_args=R.Tensor((4,), "float32"))

    tvm.register_global_func("test_export.twice", lambda t: tvm.runtime.tensor(2 * t.numpy()), override=True)
    path = tmp_path / "calls.so"
    export_executable(tvm.compile(Calls, tvm.target.Target("llvm")), path, HOST)
    vm = tvm.relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    assert vm["main"](tvm.runtime.tensor(np.ones(4, np.float32))).numpy().tolist() == [2.0] * 4


@pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None or shutil.which("aarch64-linux-gnu-gcc") is None,
    reason="needs qemu-aarch64 and an aarch64 C compiler (for the caller and its C library)",
)
@pytest.mark.parametrize("optimize", ["-O0", "-O2"])
def test_an_aarch64_library_loads_and_computes(tmp_path, optimize):
    compiler = shutil.which("aarch64-linux-gnu-gcc") or ""
    (tmp_path / "caller.c").write_text(AARCH64_CALLER)
    (tmp_path / "library.c").write_text(AARCH64_LIBRARY)
    subprocess.run([compiler, "caller.c", "-o", "caller", "-ldl"], cwd=tmp_path, check=True)
    subprocess.run([compiler, optimize, "-fPIC", "-c", "library.c"], cwd=tmp_path, check=True)
    library = link_shared([(tmp_path / "library.o").read_bytes()], "aarch64-linux-gnu")
    (tmp_path / "library.so").write_bytes(library)
    done = subprocess.run(
        ["qemu-aarch64", "-L", AARCH64_SYSROOT, "./caller", "./library.so"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # 1*4*1 + 2*5*10 + 3*6*100 rounded up from a quarter more, one, 1000003 calls, and 't'.
    assert done.stdout == f"{1905 + 1 + 1000003 + ord('t')}\n"
