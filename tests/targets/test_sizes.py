from typing import Any

import pytest
from ingot.ir.errors import RequestError
from ingot.targets.sizes import format_size, parse_size, parse_size_or_auto


@pytest.mark.parametrize(
    ("size", "num_bytes"),
    [(1, 1), ("1", 1), ("2GiB", 2**31), ("512 MB", 512_000_000), ("1.5kib", 1536), ("0.5GiB", 2**29)],
)
def test_sizes_are_bytes(size: Any, num_bytes: int) -> None:
    assert parse_size(size, name="kv_memory") == num_bytes


@pytest.mark.parametrize("size", [0, -1, True, "", "0MiB", "GiB", "2 apples", "-1GiB", "1e9", 1.5, None])
def test_what_is_no_size_is_refused_by_name(size: Any) -> None:
    with pytest.raises(RequestError, match="kv_memory must be a size") as refusal:
        parse_size(size, name="kv_memory")
    assert refusal.value.param == "kv_memory"


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 * 1024, "1.5 MiB"), (5 * 2**40, "5120.00 GiB")],
)
def test_sizes_are_read_by_people(num_bytes: int, text: str) -> None:
    assert format_size(num_bytes) == text


def test_who_uses_it_may_find_out_how_much_is_right() -> None:
    assert [parse_size_or_auto(size, name="kv_memory") for size in (None, "auto", "1KiB")] == [
        None,
        None,
        1024,
    ]
