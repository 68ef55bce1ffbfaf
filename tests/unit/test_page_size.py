"""A read of the stream is bounded by what its entries weigh, which Redis does not do."""

from __future__ import annotations

from broker.ingest.page_size import FIRST, PAGE_BYTES, PageSize


def test_small_entries_are_read_a_full_page_at_a_time() -> None:
    page = PageSize(1000)
    sizes = []
    for _ in range(6):
        sizes.append(page.entries)
        page.arrived(page.entries, page.entries * 300)
    assert sizes == [FIRST, 128, 256, 512, 1000, 1000]


def test_large_ones_are_read_a_few_at_a_time() -> None:
    page = PageSize(1000)
    page.arrived(64, 64 * 2_000_000)
    assert page.entries == 4
    page.arrived(4, 4 * PAGE_BYTES)
    assert page.entries == 1
    page.arrived(1, 20 * PAGE_BYTES)
    assert page.entries == 1, "one has to be read, whatever it weighs"


def test_a_page_that_does_not_arrive_is_asked_for_in_smaller_ones() -> None:
    page = PageSize(1000)
    for _ in range(9):
        page.arrived(page.entries, 0)
    for expected in (125, 15, 1, 1):
        page.failed()
        assert page.entries == expected


def test_a_page_is_never_larger_than_was_asked_for() -> None:
    page = PageSize(3)
    assert page.entries == 3
    page.arrived(3, 9)
    assert page.entries == 3
