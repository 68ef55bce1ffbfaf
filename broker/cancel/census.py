"""What is open right now, over all runs: the gauges beside the histograms.

Stragglers never give a lag sample, so percentiles look best exactly when it is worst (trap T35); what is counted here
does not wait for an end. It is read when somebody asks, from Redis, so every replica answers the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from broker.cancel.fresh import Fresh
from broker.cancel.lookup import NOT_READ, Lookup, straggler_cause
from broker.cancel.standing import share_of, standing_of
from broker.cancel.worklist import Listed, WorkList
from broker.store.operations import Operations
from broker.store.reads import Reads, Waiting

CAUSES_READ = 1_000  # stragglers whose cause is looked up: the oldest
RUNS_READ = 100  # of so many runs at most: each costs seven reads


@dataclass(frozen=True, slots=True)
class OpenWork:
    """`open_operations` and `overdue_operations` are operations; `unsettled` executions that were told and are not
    settled, `causes` the same by cause (`not_read`: beyond the oldest 1,000, or 100 runs); `oldest_s` the age
    of the oldest. `listed` is what all of it was counted of.

    `complete` is False where the work list was too long to be read.
    """

    open_operations: int
    overdue_operations: int
    unsettled: int
    oldest_s: float
    causes: Mapping[str, int]
    complete: bool
    listed: Listed


class Census:
    """Counts what is open, for everybody who asks within a second once."""

    def __init__(self, reads: Reads, operations: Operations, lookup: Lookup) -> None:
        self._reads, self._lookup = reads, lookup
        self._work_list = WorkList(reads, operations)
        self._fresh = Fresh(self.read)

    async def take(self) -> OpenWork:
        """The latest (fresh.py says how old it may be). Raises BrokerUnavailable."""
        return await self._fresh.take()

    async def read(self) -> OpenWork:
        """The same, read now."""
        listed = await self._work_list.read()
        runs = listed.by_run()
        waiting = dict(zip(runs, await asyncio.gather(*map(self._reads.waiting, runs)), strict=True))
        waiting = {run_id: one for run_id, one in waiting.items() if one.number}
        oldest_us = min((one.oldest_us for one in waiting.values()), default=listed.now_us)
        return OpenWork(
            open_operations=len(listed.open),
            overdue_operations=await self._overdue(listed, waiting),
            unsettled=sum(one.number for one in waiting.values()),
            oldest_s=max(0, listed.now_us - oldest_us) / 1e6,
            causes=await self._causes(waiting),
            complete=listed.complete,
            listed=listed,
        )

    async def _overdue(self, listed: Listed, waiting: Mapping[str, Waiting]) -> int:
        """Where every cancel has time left, nothing can be late; only the other runs have to be looked at."""
        late = {
            run_id: operations
            for run_id, operations in listed.by_run().items()
            if run_id in waiting and any(listed.now_us > one.deadline_us for one in operations)
        }
        look_at = share_of(len(late))
        found = await asyncio.gather(
            *(
                standing_of(self._reads, run_id, some, listed.now_us, look_at, waiting[run_id])
                for run_id, some in late.items()
            )
        )
        return sum(one.overdue for standings in found for one in standings.values())

    async def _causes(self, waiting: Mapping[str, Waiting]) -> Mapping[str, int]:
        """Of the runs that wait longest first, until the budget is used; the runs side by side."""
        budget, left = dict[str, int](), CAUSES_READ
        for run_id in sorted(waiting, key=lambda one: waiting[one].oldest_us)[:RUNS_READ]:
            budget[run_id] = min(left, waiting[run_id].number)
            left -= budget[run_id]
        found = await asyncio.gather(*(self._causes_of(run_id, limit) for run_id, limit in budget.items() if limit))
        causes = Counter(cause for causes_of_run in found for cause in causes_of_run)
        causes[NOT_READ] = max(0, sum(one.number for one in waiting.values()) - causes.total())
        return {cause: number for cause, number in causes.items() if number}

    async def _causes_of(self, run_id: str, limit: int) -> list[str]:
        execution_ids = await self._reads.longest_waiting(run_id, limit)
        evidence = await self._lookup.evidence(run_id, execution_ids, depth_of={})
        return [straggler_cause(one, evidence) for one in evidence.executions]
