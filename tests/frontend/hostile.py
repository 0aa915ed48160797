"""Files damaged at random, by a seed: what a download, a disk or an enemy may make of them."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

__all__ = ["damage", "damage_json"]

_HUGE = (0, 1, 7, 255, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def _flip(data: bytearray, random_: random.Random, within: int) -> None:
    for _ in range(random_.choice((1, 1, 2, 8))):
        data[random_.randrange(within)] ^= 1 << random_.randrange(8)


def _overwrite(data: bytearray, random_: random.Random, within: int) -> None:
    at = random_.randrange(within)
    data[at : at + 1] = bytes([random_.randrange(256)])


def _huge_number(data: bytearray, random_: random.Random, within: int) -> None:
    """A count or an offset where there may be one."""
    form = random_.choice(("<Q", "<I", ">Q", "<H"))
    size = struct.calcsize(form)
    at = random_.randrange(max(within - size, 1))
    number = random_.choice(_HUGE) % (1 << 8 * size)
    data[at : at + size] = struct.pack(form, number)[: len(data) - at]


def _truncate(data: bytearray, random_: random.Random, within: int) -> None:
    del data[random_.choice((random_.randrange(within), random_.randrange(len(data)))) :]


def _extend(data: bytearray, random_: random.Random, within: int) -> None:
    data += random_.randbytes(random_.choice((1, 32, 1000)))


def _remove(data: bytearray, random_: random.Random, within: int) -> None:
    at = random_.randrange(within)
    del data[at : at + random_.choice((1, 4, 8, 100))]


def _insert(data: bytearray, random_: random.Random, within: int) -> None:
    at = random_.randrange(within)
    data[at:at] = random_.randbytes(random_.choice((1, 4, 8, 100)))


def _copy_within(data: bytearray, random_: random.Random, within: int) -> None:
    """A part of the file over another one: entries twice, offsets that overlap."""
    size = random_.choice((4, 8, 32, 100))
    source, target = random_.randrange(within), random_.randrange(within)
    data[target : target + size] = data[source : source + size]


_DAMAGES: tuple[Callable[[bytearray, random.Random, int], None], ...] = (
    _flip,
    _overwrite,
    _huge_number,
    _huge_number,
    _truncate,
    _extend,
    _remove,
    _insert,
    _copy_within,
)


def damage(content: bytes, random_: random.Random, header: int) -> bytes:
    """``content``, damaged once or a few times, mostly within its first ``header`` bytes."""
    data = bytearray(content)
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        within = min(header, len(data)) if random_.random() < 0.9 else len(data)
        random_.choice(_DAMAGES)(data, random_, max(within, 1))
    return bytes(data)


_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 10**6, 10**9, 10**12, 10**18, 2**63, 10**400),
    *(0.5, -0.0, 1e-300, 1e300, "", "x", "a" * 10_000, [], {}, [0], [None], {"a": 1}, [10**9] * 3),
    *("gelu", "llama", "yarn", "linear", "sliding_attention", "cast", "../../etc/passwd", "\x00"),
)


def damage_json(content: bytes, random_: random.Random) -> bytes:
    """A JSON text in which a value was put in place of another, or which is damaged as bytes are."""
    if random_.random() < 0.25:
        return damage(content, random_, len(content))
    if random_.random() < 0.05:
        return random_.choice(
            (b"[" * 100_000, b'{"a":' * 50_000, b"1" * 100_000, b"", b"null", b"[]", b"\xff\xfe")
        )
    value = json.loads(content)
    for _ in range(random_.choice((1, 1, 2, 3))):
        value = _changed(value, random_)
    text = json.dumps(value)
    if random_.random() < 0.1:
        text = re.sub(
            r"\d+", lambda found: random_.choice(("NaN", "Infinity", "1e999", found[0])), text, count=3
        )
    return text.encode()


def _changed(value: Any, random_: random.Random) -> Any:
    """``value`` with something within it replaced, taken away or put twice."""
    if isinstance(value, dict) and value and random_.random() < 0.9:
        key = random_.choice(list(value))
        if random_.random() < 0.15:
            return {name: item for name, item in value.items() if name != key}
        if random_.random() < 0.05:
            return {**value, random_.choice(("", "x", "\x00", key * 2)): value[key]}
        return {**value, key: _changed(value[key], random_)}
    if isinstance(value, list) and value and random_.random() < 0.7:
        at = random_.randrange(len(value))
        if random_.random() < 0.2:
            return [*value, *value[at:]]
        return [*value[:at], _changed(value[at], random_), *value[at + 1 :]]
    return random_.choice(_VALUES)
