"""What a worker went through with its own connections, told to Redis, where every replica finds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from broker.store.claims import Claims, Holder


class Links:
    """Tells how far each of its counters has risen since it was told last; nothing while none has.

    `read` answers them as they stand: field of the counts (broker/store/counts.py) → number in this process.
    """

    def __init__(self, claims: Claims, holder: Holder, read: Callable[[], Mapping[str, int]]) -> None:
        self._claims, self._holder, self._read = claims, holder, read
        self._told: dict[str, int] = {}
        self._number = 0
        self._unanswered: dict[str, int] = {}
        self._telling = asyncio.Lock()

    async def tell(self) -> None:
        """What was not answered is said again as it was, so that it counts once. Raises BrokerUnavailable."""
        async with self._telling:
            if not self._unanswered:
                now = self._read()
                self._unanswered = {one: n for one in now if (n := now[one] - self._told.get(one, 0)) > 0}
                self._number += bool(self._unanswered)
            if self._unanswered:
                await self._claims.add_counts(self._holder, self._number, self._unanswered)
                for one, by in self._unanswered.items():
                    self._told[one] = self._told.get(one, 0) + by
                self._unanswered = {}
