"""The state of everything at a glance, for a screen that refreshes itself; the same by every replica.

What it costs is bounded: the work list is read once for all who look (census.py), the oldest 100 cancels are looked
at closely, of the stragglers 10,000, of the workers the 1,000 that were silent longest, and all of it is kept for a
second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broker.cancel.census import Census, OpenWork
from broker.cancel.fresh import Fresh
from broker.cancel.lookup import Lookup
from broker.cancel.recent import Recent, recent_lag
from broker.cancel.standing import share_of
from broker.cancel.views import CancellationView
from broker.store.reads import Reads
from broker.store.roster import Roster, Workers

CANCELS_LISTED = 100
WORKERS_READ = 1_000


@dataclass(frozen=True, slots=True)
class Overview:
    """`work` counts everything; `cancellations` has the oldest 100, `workers` the 1,000 that were silent longest.

    Of a subtree's stragglers those are counted that are looked at, some hundred.
    """

    work: OpenWork
    cancellations: tuple[CancellationView, ...]
    workers: Workers
    recent: Recent


class Overviews:
    """Read when somebody asks."""

    def __init__(self, reads: Reads, lookup: Lookup, roster: Roster, census: Census) -> None:
        self._reads, self._lookup, self._roster, self._census = reads, lookup, roster, census
        self._fresh = Fresh(self._read)

    async def take(self) -> Overview:
        """The latest (fresh.py says how old it may be). Raises BrokerUnavailable."""
        return await self._fresh.take()

    async def _read(self) -> Overview:
        work = await self._census.take()
        first = work.listed.open[:CANCELS_LISTED]
        look_at = share_of(len({run_id for run_id, _ in first}))
        views, workers, recent = await asyncio.gather(
            self._lookup.views(first, work.listed.open, look_at),
            self._roster.longest_silent(WORKERS_READ),
            recent_lag(self._reads, work.listed),
        )
        return Overview(work, views, workers, recent)
