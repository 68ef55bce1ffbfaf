"""What is open right now, over all runs: the gauges beside the histograms.

Stragglers never give a lag sample, so percentiles look best exactly when it is worst (trap T35); what is counted here
does not wait for an end. It is read when somebody asks, from Redis, so every replica answers the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from broker.cancel.lookup import Lookup, straggler_cause
from broker.cancel.report import is_overdue
from broker.protocol.records import OperationRecord
from broker.protocol.states import Scope
from broker.store.operations import OPEN_WITHIN_US, Operations
from broker.store.reads import Reads, Waiting

LISTED = 10_000  # entries of the work list looked at
CAUSES_READ = 1_000  # stragglers whose cause is looked up: the oldest
RUNS_READ = 100  # of so many runs at most: each costs seven reads
NOT_READ = "not_read"
FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class OpenWork:
    """`open_operations` and `overdue_operations` are operations; `unsettled` executions that were told and are not
    settled, `causes` the same by cause (`not_read`: beyond the oldest 1,000, or 100 runs); `oldest_s` the age
    of the oldest.

    `complete` is False where the work list was too long to be read.
    """

    open_operations: int
    overdue_operations: int
    unsettled: int
    oldest_s: float
    causes: Mapping[str, int]
    complete: bool


class Census:
    """Counts what is open. Answers of one second are the same one, and one is read at a time."""

    def __init__(self, reads: Reads, operations: Operations, lookup: Lookup) -> None:
        self._reads, self._operations, self._lookup = reads, operations, lookup
        self._settled: dict[tuple[str, str], int] = {}
        self._reading = asyncio.Lock()
        self._latest: tuple[float, OpenWork] | None = None

    async def take(self) -> OpenWork:
        """At most a second old. Raises BrokerUnavailable."""
        clock = asyncio.get_running_loop().time
        async with self._reading:
            if self._latest is None or clock() - self._latest[0] >= FRESH_S:
                work = await self.read()
                self._latest = clock(), work
            return self._latest[1]

    async def read(self) -> OpenWork:
        """The same, read now."""
        listed = await self._operations.listed_soon(OPEN_WITHIN_US, LISTED)
        operations = await self._open(listed)
        now_us = await self._operations.now_us()
        runs = list(dict.fromkeys(run_id for run_id, _ in operations))
        waiting = dict(zip(runs, await asyncio.gather(*map(self._reads.waiting, runs)), strict=True))
        overdue = await asyncio.gather(
            *(self._is_overdue(run_id, one, waiting[run_id].number, now_us) for run_id, one in operations)
        )
        oldest_us = min((one.oldest_us for one in waiting.values() if one.number), default=now_us)
        return OpenWork(
            open_operations=len(operations),
            overdue_operations=sum(overdue),
            unsettled=sum(one.number for one in waiting.values()),
            oldest_s=max(0, now_us - oldest_us) / 1e6,
            causes=await self._causes({run_id: one for run_id, one in waiting.items() if one.number}),
            complete=len(listed) < LISTED,
        )

    async def _open(self, listed: Mapping[tuple[str, str], int]) -> list[tuple[str, OperationRecord]]:
        """What is settled stays on the list: it is read once, and again only when it is due at another time."""
        self._settled = {entry: due for entry, due in self._settled.items() if listed.get(entry) == due}
        wanted = [entry for entry in listed if entry not in self._settled]
        found = await asyncio.gather(*(self._reads.operation(*entry) for entry in wanted))
        operations: list[tuple[str, OperationRecord]] = []
        for entry, operation in zip(wanted, found, strict=True):
            if operation is not None and operation.state == "open":
                operations.append((entry[0], operation))
            elif operation is not None:
                self._settled[entry] = listed[entry]
        return operations

    async def _is_overdue(self, run_id: str, operation: OperationRecord, unsettled: int, now_us: int) -> bool:
        """Only for a part of a run, and past its deadline, the stragglers themselves have to be looked at."""
        if not is_overdue(operation, unsettled, now_us) or operation.scope is Scope.RUN:
            return is_overdue(operation, unsettled, now_us)
        oldest = await self._reads.longest_waiting(run_id, CAUSES_READ)
        return bool(await self._reads.in_scope(run_id, operation, oldest))

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
