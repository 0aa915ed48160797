"""From modules to artifacts: lowering to TVM, kernels, linking, and the artifact's writer."""

from .compiler import CompiledArtifact, CompileProgress, compile_model

__all__ = ["CompileProgress", "CompiledArtifact", "compile_model"]
