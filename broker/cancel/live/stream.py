"""One who looks at a run: what he has not been told yet, in bounded memory, and where he stands."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from broker.cancel.live.events import (
    Event,
    Noted,
    OperationChanged,
    Place,
    Placed,
    Snapshot,
    before,
    moved,
    since,
)
from broker.observe import signals
from broker.protocol.records import AckRecord, AuditEntry
from broker.store.reads import Reads

BATCH = 500


class Hub(Protocol):
    """Where events come from; `position` is how far it has told the run's log."""

    run_id: str
    position: str
    streams: set[RunStream]


class RunStream:
    """Everything of one run from one place on, in batches that are as large as their reader is slow.

    At most `limit` events wait; a reader who lets more come gets a fresh snapshot instead of them.
    """

    def __init__(self, run_id: str, hub: Hub, reads: Reads, now_us: Callable[[], Awaitable[int]], limit: int) -> None:
        self.run_id = run_id
        self.hub = hub
        self._reads = reads
        self._now_us = now_us
        self._limit = limit
        self._waiting: deque[Event] = deque()
        self._replay: deque[Event] = deque()
        self._due: str | None = "start"
        self._place: Place | None = None
        self._states: dict[str, str] = {}
        self._woken = asyncio.Event()

    @property
    def settled(self) -> bool:
        """Whether what was told so far ends with every operation of the run settled; False where there is none."""
        return bool(self._states) and all(state == "settled" for state in self._states.values())

    @property
    def idle(self) -> bool:
        """Whether there is nothing to tell at present."""
        return not self._waiting and self._due is None and not self._replay

    def put(self, event: Event) -> None:
        if self._due == "slow":
            return
        if len(self._waiting) >= self._limit:
            self._waiting.clear()
            self._due = "slow"
        else:
            self._waiting.append(event)
        self._woken.set()

    def miss(self) -> None:
        """Acks may have been published that nobody here has heard."""
        if self._due is None:
            self._due = "missed"
            self._woken.set()

    def resume(self, after: Place) -> None:
        """To be called before the first batch: tell what has happened behind this place."""
        self._place = after

    async def batch(self, patience_s: float) -> list[Placed]:
        """What comes next, empty where nothing has come for so long. Raises BrokerError where Redis is away."""
        if self._replay:
            return self._placed(_first(self._replay))
        if self.idle:
            try:
                async with asyncio.timeout(patience_s):
                    await self._woken.wait()
            except TimeoutError:
                return []
        self._woken.clear()
        if self._due is not None:  # before what waits: that may lie behind a gap
            return await self._look()
        return self._placed(_first(self._waiting))

    def _placed(self, events: list[Event]) -> list[Placed]:
        placed: list[Placed] = []
        for event in events:
            if self._place is None:
                raise RuntimeError("the first batch is a snapshot, which has a place")
            if isinstance(event, Noted) and not before(self._place.position, event.entry.position):
                continue  # told from the log already
            if isinstance(event, OperationChanged):
                self._states[event.operation.cancel_id] = event.operation.state
            self._place = moved(self._place, event)
            placed.append((self._place, event))
        return placed

    async def _look(self) -> list[Placed]:
        """A snapshot of what stands in Redis; what comes meanwhile waits behind it. Then what was missed, if wanted."""
        why, after = self._due or "start", self._place
        position = self.hub.position
        self._due = None
        try:
            at_us = await self._now_us()
            acks = await self._reads.acks(self.run_id)
            snapshot = await self._snapshot(why, at_us, acks)
            resumed = after if why != "slow" else None
            entries = [] if resumed is None else await self._entries(resumed, position)
        except BaseException:
            self._due = why
            raise
        await signals.reached("live.snapshot", self.run_id)
        self._states = {one.cancel_id: one.state for one in snapshot.operations}
        if resumed is not None:
            self._replay = deque(since(resumed, acks, entries))
        self._place = resumed or Place(at_us, position)
        return [(self._place, snapshot)]

    async def _snapshot(self, why: str, at_us: int, acks: Mapping[str, AckRecord]) -> Snapshot:
        operations = await self._reads.operations(self.run_id)
        outstanding = await self._reads.unsettled_count(self.run_id)
        said = Counter(ack.disposition for ack in acks.values())
        return Snapshot(why, at_us, tuple(operations), dict(said), outstanding)

    async def _entries(self, after: Place, position: str) -> list[AuditEntry]:
        """The log between the two; what is newer is told by the hub."""
        found: list[AuditEntry] = []
        while page := await self._reads.log(self.run_id, found[-1].position if found else after.position):
            found += [entry for entry in page if not before(position, entry.position)]
            if len(found) == 0 or before(position, page[-1].position):
                break
        return found


def _first(events: deque[Event]) -> list[Event]:
    """Takes as many as go into a batch."""
    return [events.popleft() for _ in range(min(BATCH, len(events)))]
