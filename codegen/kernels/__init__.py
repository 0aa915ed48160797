"""Kernels in TIR: matrix products, attention over pages, quantization, and what goes row by row."""
