"""From modules to artifacts: lowering to TVM, kernels, linking, and the artifact's writer."""

from .compiler import CompiledArtifact, compile_model
from .progress import CompileProgress

__all__ = ["CompileProgress", "CompiledArtifact", "compile_model"]
