"""Launches that choose tokens of the logits where they lie; what they do is in ``sources/sampling.h``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...targets.launch_plan import Argument, Bound, Size

if TYPE_CHECKING:
    from .planning import Planning

__all__ = ["plan_drawn", "plan_likeliest"]

_PIECE = 2048
"""Logits that a block takes where a line's are shared out."""

_THREADS, _DRAWING_THREADS, _LINES_THREADS = 256, 512, 32

_LINES = ("lines",)
_CHOICES = ("GLOBAL const Choice* choices", Argument("choice", "choices"))
_CHOSEN = ("GLOBAL int* chosen", Argument("choice", "chosen"))


def plan_likeliest(planning: Planning) -> None:
    """The likeliest token of each line's row, as it is."""
    largest, _ = _survey(planning, Argument("logits", "logits"), are_copies=False)
    planning.launch(
        "take_likeliest",
        f"take_likeliest<{_LINES_THREADS}, {_num_pieces(planning)}>(here, largest, chosen, num_lines);",
        [largest, _CHOSEN, ("int num_lines", Argument("symbol", "lines"))],
        (Size(1, _LINES, over=_LINES_THREADS),),
        _LINES_THREADS,
    )


def plan_drawn(planning: Planning) -> None:
    """A token of each line, whatever is wanted: rows are copied, edited, surveyed, and drawn from."""
    vocab, pieces = planning.vocab_size, Size(_num_pieces(planning))
    lines = planning.new_array(Size(vocab, _LINES), 4)
    written = ("GLOBAL float* lines", lines)
    planning.launch(
        "copy_lines",
        f"copy_lines<{_THREADS}, {vocab}, {_PIECE}>(here, logits, choices, masks, lines);",
        [
            ("GLOBAL const float* logits", Argument("logits", "logits")),
            _CHOICES,
            ("GLOBAL const unsigned* masks", Argument("choice", "masks")),
            written,
        ],
        (pieces, Size(1, _LINES)),
        _THREADS,
    )
    planning.launch(
        "edit_lines",
        f"edit_lines<{_THREADS}, {vocab}>(here, choices, edits, lines);",
        [_CHOICES, ("GLOBAL const int* edits", Argument("choice", "edits")), written],
        (Size(1, _LINES),),
        _THREADS,
        (Bound("edits", at_least=1),),
    )
    largest, counts = _survey(planning, lines, are_copies=True)
    planning.launch(
        "draw_tokens",
        "SHARED_ARRAY(Drawing, drawing, [1]); "
        f"draw_tokens<{_DRAWING_THREADS}, {vocab}, {_num_pieces(planning)}>"
        "(here, drawing[0], choices, largest, counts, lines, chosen);",
        [_CHOICES, largest, counts, written, _CHOSEN],
        (Size(1, _LINES),),
        _DRAWING_THREADS,
    )


def _survey(
    planning: Planning, source: Argument, *, are_copies: bool
) -> tuple[tuple[str, Argument], tuple[str, Argument]]:
    """What of each line's pieces is largest, and how many of their tokens can come, for later launches."""
    pieces, warps = _num_pieces(planning), _THREADS // 32
    largest = planning.new_array(Size(pieces, _LINES), 8)
    counts = planning.new_array(Size(pieces, _LINES), 4)
    shape = f"{_THREADS}, {planning.vocab_size}, {_PIECE}, {str(are_copies).lower()}"
    planning.launch(
        "survey_lines",
        f"SHARED_ARRAY(uint64, parts, [{warps}]); SHARED_ARRAY(int, sums, [{warps}]); "
        f"survey_lines<{shape}>(here, parts, sums, lines, choices, largest, counts);",
        [
            ("GLOBAL const float* lines", source),
            _CHOICES,
            ("GLOBAL uint64* largest", largest),
            ("GLOBAL int* counts", counts),
        ],
        (Size(pieces), Size(1, _LINES)),
        _THREADS,
    )
    return ("GLOBAL const uint64* largest", largest), ("GLOBAL const int* counts", counts)


def _num_pieces(planning: Planning) -> int:
    return -(-planning.vocab_size // _PIECE)
