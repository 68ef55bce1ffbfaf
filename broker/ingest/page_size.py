"""How many entries are asked for at once. Redis bounds a read by their number only, and one may have any size. Pure."""

from __future__ import annotations

FIRST = 64
PAGE_BYTES = 8_000_000


class PageSize:
    """Grows to `most` entries while they are small, and shrinks until a page is about `PAGE_BYTES` at most.

    A thousand entries of 2 MB are no answer that arrives within any time-out; asked for again just so, they
    would hold up all that comes behind them for ever.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.entries = min(FIRST, most)

    def arrived(self, entries: int, size_bytes: int) -> None:
        """One page came."""
        wanted = PAGE_BYTES * entries // max(1, size_bytes) if size_bytes > PAGE_BYTES else 2 * self.entries
        self.entries = max(1, min(wanted, self._most))

    def failed(self) -> None:
        """One did not; why is not known, and a small one costs little."""
        self.entries = max(1, self.entries // 8)
