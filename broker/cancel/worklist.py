"""The operations that somebody may look at now: the open ones, and those that have settled a little while ago."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from broker.protocol.records import OperationRecord
from broker.store.operations import OPEN_WITHIN_US, SETTLED_AGAIN_US, Operations
from broker.store.reads import Reads

LISTED = 10_000  # entries of the work list looked at
RECENT_US = 65_000_000
Entry = tuple[str, OperationRecord]
"""Run id and operation."""


@dataclass(frozen=True, slots=True)
class Listed:
    """`open` is in the order of the requests; `settled` has those of the last minute, and some older ones.

    `complete` is False where the work list was too long to be read. `now_us` is Redis time.
    """

    now_us: int
    open: tuple[Entry, ...]
    settled: tuple[Entry, ...]
    complete: bool

    def by_run(self) -> Mapping[str, list[OperationRecord]]:
        """The open ones of each run."""
        found: dict[str, list[OperationRecord]] = {}
        for run_id, operation in self.open:
            found.setdefault(run_id, []).append(operation)
        return found


class WorkList:
    """Reads it. What is settled stays listed for a day: it is read once, and again only when it is due anew."""

    def __init__(self, reads: Reads, operations: Operations) -> None:
        self._reads, self._operations = reads, operations
        self._settled: dict[tuple[str, str], tuple[int, OperationRecord]] = {}

    async def read(self) -> Listed:
        """What is due soon, which all that is open is, and what was put aside as settled in the last minute.

        Raises BrokerUnavailable.
        """
        now_us = await self._operations.now_us()
        aside_us = now_us + SETTLED_AGAIN_US
        soon, aside = await asyncio.gather(
            self._operations.listed_between(0, now_us + OPEN_WITHIN_US, LISTED),
            self._operations.listed_between(aside_us - RECENT_US, aside_us, LISTED),
        )
        listed = soon | aside
        known = self._settled
        self._settled = {entry: known[entry] for entry, due in listed.items() if known.get(entry, (None,))[0] == due}
        wanted = [entry for entry in listed if entry not in self._settled]
        found = await asyncio.gather(*(self._reads.operation(*entry) for entry in wanted))
        opened: list[Entry] = []
        for entry, operation in zip(wanted, found, strict=True):
            if operation is not None and operation.state == "open":
                opened.append((entry[0], operation))
            elif operation is not None:
                self._settled[entry] = listed[entry], operation
        return Listed(
            now_us=now_us,
            open=tuple(sorted(opened, key=lambda one: (one[1].requested_at_us, one[1].cancel_id))),
            settled=tuple((run_id, operation) for (run_id, _), (_, operation) in self._settled.items()),
            complete=len(soon) < LISTED,
        )
