"""What kernels are told of a ragged batch in pages."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir import Value
from ....targets.launch_plan import Argument
from ..planning import Planning

__all__ = ["MAKE_BATCH", "batch_arguments"]

MAKE_BATCH = "Batch batch{sequence_starts, context_lengths, page_table, num_sequences, table_width}; "
"""Makes a template's ``batch`` of :func:`batch_arguments`."""


def batch_arguments(planning: Planning, described: Sequence[Value]) -> tuple[tuple[str, Argument], ...]:
    """Arguments for sequence starts, context lengths and page table."""
    starts, lengths, table = described
    return (
        ("GLOBAL const int* sequence_starts", planning.plain[starts]),
        ("GLOBAL const int* context_lengths", planning.plain[lengths]),
        ("GLOBAL const int* page_table", planning.plain[table]),
        ("int num_sequences", Argument("symbol", "sequences")),
        ("int table_width", Argument("symbol", "pages_per_sequence")),
    )
