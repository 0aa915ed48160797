"""CUDA: a step as launches of kernels that are generated for the model, see docs/cuda.md."""
