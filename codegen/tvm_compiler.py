"""TVM with its compiler, told how many threads to use."""

from __future__ import annotations

import os
import sys

from ..targets.threads import use_all_cores

__all__ = ["prepare_compiler"]


def prepare_compiler() -> bool:
    """Prepare to import TVM with its compiler; false where this process has loaded the runtime alone, for
    an engine, and can no longer do so.
    """
    use_all_cores()
    if os.environ.get("TVM_USE_RUNTIME_LIB") != "1":
        return True
    if "tvm" in sys.modules:
        return False
    del os.environ["TVM_USE_RUNTIME_LIB"]
    return True
