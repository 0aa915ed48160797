"""Choosing tokens on a device: wishes become a table there, and only the tokens come back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ....targets.choice_table import CHOICE, MOST_SORTED
from ....targets.launch_plan import LaunchGroup, TokenChoice
from ...scheduling.choosing import TokenWish
from .arena import aligned
from .device import Device
from .replay import Replay
from .sent_arrays import SentArrays

__all__ = ["DeviceTokenChooser", "num_choice_bytes"]

_EDITS_PER_LINE = 2048
"""For how many edits of a line there is room, on average."""

_EDIT = np.dtype([("token", "<i4"), ("value", "<f4")])
_MIN_FLOOR = 1e-3
"""What is taken from min-p's logarithm; see ``drawing.py`` of the sampler."""


class DeviceTokenChooser:
    """A :class:`~ingot.runtime.scheduling.choosing.TokenChooser` over the logits of a device's last step."""

    def __init__(
        self,
        device: Device,
        plan: TokenChoice,
        replay: Callable[[LaunchGroup, Mapping[tuple[str, str], int]], Replay],
        *,
        vocab_size: int,
        most_lines: int,
    ) -> None:
        """Make room.

        Args:
            device: where.
            plan: how.
            replay: makes launches of a group ready, given the addresses of what is sent and chosen.
            vocab_size: the width of the logits.
            most_lines: tokens that are chosen at once; more take several turns.
        """
        self._device, self._vocab_size, self._most_lines = device, vocab_size, most_lines
        sizes = _sizes(vocab_size, most_lines)
        self._most_edits = sizes["edits"] // _EDIT.itemsize
        self._tables = {name: SentArrays(device, {name: size}) for name, size in sizes.items()}
        self._chosen = device.allocate(4 * most_lines)
        addresses = {("choice", name): table.addresses[name] for name, table in self._tables.items()}
        addresses["choice", "chosen"] = self._chosen
        self._likeliest = replay(plan.likeliest, addresses)
        self._drawn = replay(plan.drawn, addresses)

    def choose(self, wishes: Sequence[TokenWish]) -> list[int | None]:
        """See :class:`TokenChooser`."""
        chosen: list[int | None] = [None] * len(wishes)
        left = [number for number, wish in enumerate(wishes) if self._takes(wish)]
        while left:
            count, num_edits = 0, 0
            for number in left[: self._most_lines]:
                num_edits += wishes[number].num_edits
                if num_edits > self._most_edits:
                    break
                count += 1
            turn, left = left[:count], left[count:]
            token_ids = self._choose([wishes[number] for number in turn])
            for number, token_id in zip(turn, token_ids, strict=True):
                chosen[number] = token_id if token_id >= 0 else None
        return chosen

    def _takes(self, wish: TokenWish) -> bool:
        is_sorted = not wish.is_greedy and MOST_SORTED < wish.top_k < self._vocab_size
        return not is_sorted and wish.num_edits <= self._most_edits

    def _choose(self, wishes: Sequence[TokenWish]) -> list[int]:
        """Tokens for as many lines as there is room for; -1 where there is none to choose."""
        if all(wish.is_plain for wish in wishes):
            choices = np.zeros(len(wishes), CHOICE)
            choices["row"] = [wish.row for wish in wishes]
            self._send("choices", choices)
            self._likeliest.run({"lines": len(wishes)})
        else:
            choices, edits, masks = _tabulate(wishes, self._vocab_size)
            self._send("choices", choices)
            self._send("edits", edits)
            self._send("masks", masks)
            self._drawn.run({"lines": len(wishes), "edits": int(len(edits) > 0)})
        chosen = np.empty(len(wishes), np.int32)
        self._device.read(self._chosen, chosen)
        return [int(token_id) for token_id in chosen]

    def _send(self, name: str, array: npt.NDArray[np.generic]) -> None:
        self._tables[name].send({name: array})


def num_choice_bytes(vocab_size: int, most_lines: int) -> int:
    """The device's memory that choosing takes, but for what is computed on the way."""
    return sum(map(aligned, _sizes(vocab_size, most_lines).values())) + aligned(4 * most_lines)


def _sizes(vocab_size: int, most_lines: int) -> dict[str, int]:
    """Bytes of each table."""
    return {
        "choices": most_lines * CHOICE.itemsize,
        "masks": most_lines * _num_words(vocab_size) * 4,
        "edits": most_lines * _EDITS_PER_LINE * _EDIT.itemsize,
    }


def _num_words(vocab_size: int) -> int:
    return -(-vocab_size // 32)


def _tabulate(
    wishes: Sequence[TokenWish], vocab_size: int
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void], npt.NDArray[np.uint32]]:
    """Wishes as kernels read them: lines, their edits, and their masks."""
    choices = np.zeros(len(wishes), CHOICE)
    edits: list[npt.NDArray[np.void]] = []
    masks: list[npt.NDArray[np.uint32]] = []
    num_edits, num_words = 0, _num_words(vocab_size)
    for choice, wish in zip(choices, wishes, strict=True):
        choice["row"], choice["is_greedy"], choice["top_k"] = wish.row, wish.is_greedy, wish.top_k
        choice["mask"] = -1 if wish.allowed is None else len(masks)
        choice["temperature"], choice["inverse"] = wish.temperature, 1.0 / wish.temperature
        choice["min_p"], choice["top_p"] = wish.min_p, int(wish.top_p * 2**53)
        if wish.min_p > 0.0:
            choice["min_floor"] = wish.temperature * (math.log(wish.min_p) - _MIN_FLOOR)
        choice["seed"], choice["place"] = wish.seed, wish.place
        choice["repetition"], choice["frequency"], choice["presence"] = wish.penalties
        suppressed = wish.suppressed, np.zeros(len(wish.suppressed), np.float32)
        kinds = {
            "counted": wish.counted,
            "added": wish.added,
            "biased": wish.biased,
            "suppressed": suppressed,
        }
        for name, (ids, values) in kinds.items():
            choice[name] = num_edits
            if len(ids):
                edits.append(_edits(ids, values))
                num_edits += len(ids)
        choice["end"] = num_edits
        if wish.allowed is not None:
            masks.append(_whole(wish.allowed, num_words))
    return (
        choices,
        np.concatenate(edits) if edits else np.zeros(0, _EDIT),
        np.stack(masks) if masks else np.zeros((0, num_words), np.uint32),
    )


def _edits(ids: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> npt.NDArray[np.void]:
    edits = np.empty(len(ids), _EDIT)
    edits["token"], edits["value"] = ids, values
    return edits


def _whole(mask: npt.NDArray[np.uint32], num_words: int) -> npt.NDArray[np.uint32]:
    """A mask of all words; tokens past its end are forbidden."""
    whole = np.zeros(num_words, np.uint32)
    whole[: len(mask)] = mask[:num_words]
    return whole
