"""A paged module as launches of kernels on a GPU: what ``codegen/cuda`` and ``codegen/metal`` share.

``lower`` walks the graph with a rule for each operator, which ask for instances of the templates in
``sources/``. These are written once, in what CUDA C++ and Metal's shading language have in common; a
:class:`~ingot.codegen.gpu.machine.Machine` says what differs.
"""
