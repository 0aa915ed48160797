"""From a paged or a ragged module to TVM: each operator becomes a call of a kernel specialised to its shapes.

Activations are two-dimensional buffers ``[rows, columns]``; reshapes and slices that keep rows whole move
nothing, they are other :class:`~ingot.codegen.kernels.rows.Rows` of the same buffer. A kernel is generated
once for each distinct specialisation, so that a model of many like layers holds a handful. To lower another
operator, write a rule beside its like and name it in that module's ``RULES``.
"""

from .layouts import StateLayout, parameter_layouts, state_layouts
from .lower import lower
from .products import row_codes
from .step import MAX_STEP_TOKENS

__all__ = [
    "MAX_STEP_TOKENS",
    "StateLayout",
    "lower",
    "parameter_layouts",
    "row_codes",
    "state_layouts",
]
