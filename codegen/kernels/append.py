"""Writing a step's keys and values, or latents, to their slots."""

from __future__ import annotations

from tvm import tirx

from .cache import CachedHeads
from .isa import Isa
from .rows import Rows
from .script import Buffer, Expr, T, kernel, load, symbol

__all__ = ["append_to_pages"]


def append_to_pages(isa: Isa, name: str, *written: tuple[CachedHeads, Rows]) -> tirx.PrimFunc:
    """Write each row of every cache into its slot (``page * page_size + offset``).

    Arguments: the caches' arrays, as :mod:`.cache` lays them; for each cache its rows, float32 ``[m,
    stride]``; slots int32 ``[m]``.
    """
    num_arrays = [len(cache.parts) for cache, _ in written]
    page_size = written[0][0].page_size

    def body(*buffers: Buffer) -> None:
        arrays, rows, slots = list(buffers[: sum(num_arrays)]), buffers[sum(num_arrays) : -1], buffers[-1]
        with T.parallel(slots.shape[0]) as row:
            slot = load(slots, (row,))
            start = 0
            for (cache, x), own_rows, count in zip(written, rows, num_arrays, strict=True):
                own = arrays[start : start + count]
                cache.write(isa, own, own_rows, x, row, slot // page_size, tirx.floormod(slot, page_size))
                start += count

    m, pages = symbol("m"), symbol("pages")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        *(
            (f"cache{index}{part.suffix.replace('.', '_')}", (pages, *part.shape), part.dtype)
            for index, (cache, _) in enumerate(written)
            for part in cache.parts
        ),
        *((f"x{index}", (m, x.stride), "float32") for index, (_, x) in enumerate(written)),
        ("slots", (m,), "int32"),
    ]
    return kernel(name, arguments, body)
