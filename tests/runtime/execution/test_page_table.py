"""The table of pages that is kept between steps."""

from hypothesis import given
from hypothesis import strategies as st
from ingot.runtime.execution.gpu.page_table import PageTable
from ingot.runtime.scheduling.step import LogitRows, SequenceChunk


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=3),
        min_size=1,
        max_size=8,
    )
)
def test_each_step_finds_its_own_pages(steps: list[list[list[int]]]) -> None:
    table = PageTable(3, 4)
    for rows in steps:
        chunks = [SequenceChunk(0, (1,), 0, tuple(pages), LogitRows.LAST) for pages in rows]
        found = table.fill(chunks)
        assert found.shape == (len(rows), 4)
        assert [row[: len(pages)].tolist() for row, pages in zip(found, rows, strict=True)] == rows
