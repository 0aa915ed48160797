"""TVM with its compiler, told how many threads to use."""

from __future__ import annotations

import os
import sys

from ..ir.errors import CompileError
from ..targets.threads import use_all_cores

__all__ = ["require_compiler"]


def require_compiler() -> None:
    """Prepare to import TVM; raises :class:`CompileError` where this process holds its runtime alone."""
    use_all_cores()
    if os.environ.get("TVM_USE_RUNTIME_LIB") != "1":
        return
    if "tvm" in sys.modules:
        raise CompileError(
            "this process runs an engine and holds TVM without its compiler: compile before the first engine "
            "is made, or in another process"
        )
    del os.environ["TVM_USE_RUNTIME_LIB"]
