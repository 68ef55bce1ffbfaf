"""One replica's share of the event stream: read → apply → acknowledge, for ever.

At-least-once: an entry is acknowledged when it is applied or buried, so what a replica leaves when it dies
another takes over, and applies once more, which changes nothing. Events of one run go through one lane, in
stream order; lanes go side by side, and none waits for another.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from broker.cancel.engine import Engine
from broker.errors import BrokerError
from broker.ingest.apply import Applier
from broker.ingest.page_size import PageSize
from broker.ingest.reading import Refusal, read
from broker.ingest.translate import Said, Sourced
from broker.observe import signals
from broker.observe.events import (
    INGEST_CONSUMER_FORGOTTEN,
    INGEST_DEAD,
    INGEST_FAILED,
    INGEST_LEAVE_FAILED,
    INGEST_TAKEN_OVER,
    INGEST_WAITING,
)
from broker.observe.log import get_logger
from broker.store.backend import Backend
from broker.store.commands import Commands
from broker.store.streams import Delivered, Entry, EventReader, EventStream

log = get_logger("broker.ingest")

BACKOFF_S = (0.05, 5.0)
SUSPECT_DELIVERIES = 3
"""An entry that was given out so often is applied alone: those that were read together with it are innocent."""
POISON_DELIVERIES = 8
"""An entry that was given out so often, most of all alone, has ended every process that had it, and is buried."""
STOP_WITHIN_S = 5.0
CONNECTIONS = 2
"""What is applied goes over these in turn: with one, Redis would rest while its answers are read."""


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How one replica consumes. Times in seconds.

    `batch` entries a read, at most · `block` 1: how long a read waits · `in_flight` entries read and not applied, at
    most: more are not read meanwhile · `lanes` runs applied at the same time · `idle` 30: an entry that was
    read so long ago and is not applied belongs to whoever takes it over · `takeover` 5: how often is looked ·
    `trim` 1: how often the stream is trimmed · `forget` 600: a consumer that has not read for so long is dead.
    """

    batch: int = 1000
    block: float = 1.0
    in_flight: int = 4000
    lanes: int = 64
    idle: float = 30.0
    takeover: float = 5.0
    trim: float = 1.0
    forget: float = 600.0


@dataclass(slots=True)
class IngestCounts:
    """What this replica has done since it began."""

    applied: int = 0
    dropped: int = 0
    dead: int = 0
    taken_over: int = 0


class Consumer:
    """Consumes from `start()` until `close()`. What it has in hand when its process dies, others take over."""

    def __init__(
        self,
        stream: EventStream,
        reader: EventReader,
        backends: Sequence[Backend],
        engine: Engine,
        settings: IngestSettings,
    ) -> None:
        self.counts = IngestCounts()
        self._stream = stream
        self._reader = reader
        self._backends = backends
        self._applier = Applier(backends, engine)
        self._settings = settings
        self._page = PageSize(settings.batch)
        self._lanes: dict[str, list[Sourced[Said]]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(self._settings.lanes)
        self._in_flight: dict[str, str] = {}  # by entry id, what is buried where it cannot be applied
        self._room = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._lost = True  # entries that were given to us and are not in our hands: their group has to be asked
        self._trouble: Exception | None = None
        self._failures = 0
        self._due: dict[str, float] = {}

    @classmethod
    def connect(
        cls,
        url: str,
        backend: Backend,
        stream: EventStream,
        engine: Engine,
        settings: IngestSettings | None = None,
    ) -> Consumer:
        """A consumer with connections of its own to `url`, made when they are needed.

        What it applies stands in no queue of others: a cancel does not wait behind a thousand events.
        """
        timeout_s = backend.commands.timeout_s
        reader = EventReader(url, stream, backend, timeout_s=timeout_s)
        applying = [Commands(url, timeout_s=timeout_s, client_name="broker-apply") for _ in range(CONNECTIONS)]
        backends = [replace(backend, commands=commands) for commands in applying]
        return cls(stream, reader, backends, engine, settings or IngestSettings())

    def start(self) -> None:
        self._reading = asyncio.create_task(self._keep_reading(), name="broker-ingest")

    async def close(self, within_s: float = STOP_WITHIN_S) -> None:
        """Reads no more, and gives what is being applied so long to end."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._working:
            await asyncio.wait(self._working, timeout=within_s)
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        await asyncio.gather(self._reader.close(), *(backend.close() for backend in self._backends))
        try:
            await self._stream.forget(self._stream.consumer)
        except BrokerError as error:
            log.info(INGEST_LEAVE_FAILED, error=str(error))

    # --- reading ------------------------------------------------------------------------------------------

    async def _keep_reading(self) -> None:
        """Survives restarts of Redis, and the loss of stream and group with it."""
        while True:
            try:
                await self._round()
            except BrokerError as error:
                await self._pause(error)
            except Exception as error:  # noqa: BLE001 - whatever it was, the events of others must not wait for ever
                log.error(INGEST_FAILED, kind=type(error).__name__, error=str(error))
                await self._pause(error)

    async def _round(self) -> None:
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble
        if self._lost:
            await self._stream.ensure_group()
            await self._reread()
        await self._in_time("takeover", self._settings.takeover, self._take_over)
        await self._in_time("trim", self._settings.trim, self._stream.trim)
        await self._wait_for_room()
        await self._take(await self._reader.read(self._page.entries, int(self._settings.block * 1000)))

    async def _reread(self) -> None:
        """What was delivered to us and did not arrive, or could not be applied."""
        after, self._lost = "-", False
        while entries := await self._stream.ours(after, self._page.entries):
            await self._take(entries)
            after = entries[-1].entry_id
            await self._wait_for_room()

    async def _take_over(self) -> None:
        """What dead replicas have left; then they themselves are forgotten."""
        idle_ms, after = int(self._settings.idle * 1000), "-"
        while page := await self._stream.unacknowledged(idle_ms, after, self._settings.batch):
            after = page[-1].entry_id
            left = [one for one in page if one.entry_id not in self._in_flight]
            innocent = [one.entry_id for one in left if one.deliveries < SUSPECT_DELIVERIES]
            while innocent:
                some, innocent = innocent[: self._page.entries], innocent[self._page.entries :]
                await self._adopt(some, idle_ms)
            for one in left:
                if one.deliveries >= SUSPECT_DELIVERIES:
                    await self._adopt_alone(one, idle_ms)
            await self._wait_for_room()
        for consumer in await self._stream.forget_idle(int(self._settings.forget * 1000)):
            log.info(INGEST_CONSUMER_FORGOTTEN, consumer=consumer)

    async def _adopt(self, entry_ids: Sequence[str], idle_ms: int) -> None:
        entries = await self._stream.take_over(entry_ids, idle_ms)
        if entries:
            self.counts.taken_over += len(entries)
            log.info(INGEST_TAKEN_OVER, events=len(entries))
            await self._take(entries)

    async def _adopt_alone(self, one: Delivered, idle_ms: int) -> None:
        """Nothing else is taken over before its end: should it end this process, too, the others are not blamed."""
        if one.deliveries < POISON_DELIVERIES:
            await self._adopt([one.entry_id], idle_ms)
            while one.entry_id in self._in_flight:
                self._room.clear()
                await self._room.wait()
            return
        for entry in await self._stream.take_over([one.entry_id], idle_ms):
            self._in_flight |= read([entry]).payloads
            why = f"given out {one.deliveries} times, and never acknowledged: whoever had it died, or hung"
            await self._end([entry.entry_id], {entry.entry_id: Refusal("poison", why)})

    async def _in_time(self, what: str, every_s: float, action: Callable[[], Awaitable[object]]) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._due.get(what, 0.0):
            self._due[what] = now + every_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
            await action()

    async def _wait_for_room(self) -> None:
        """Backpressure: what is not read stays in the stream, where every replica finds it."""
        while len(self._in_flight) >= self._settings.in_flight:
            self._room.clear()
            await self._room.wait()

    async def _pause(self, error: Exception) -> None:
        self._lost = True
        self._failures += 1
        self._page.failed()
        self._applier.forget()
        first, cap = BACKOFF_S
        pause_s = min(cap, first * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        log.warning(INGEST_WAITING, error=str(error), retry_in_s=round(pause_s, 3))
        await asyncio.sleep(pause_s)

    # --- lanes --------------------------------------------------------------------------------------------

    async def _take(self, entries: Sequence[Entry]) -> None:
        """Parses entries and puts each in the lane of its run; what cannot be read is buried or dropped."""
        reading = read(entry for entry in entries if entry.entry_id not in self._in_flight)
        self._page.arrived(len(entries), sum(map(len, reading.payloads.values())))
        runs = await self._applier.runs_of(reading.runs, reading.events)
        self._in_flight |= reading.payloads
        by_run: dict[str, list[Sourced[Said]]] = {}
        for run_id, one in zip(runs, reading.events, strict=True):
            by_run.setdefault(run_id, []).append(one)
        for run_id, some in by_run.items():
            self._line_up(run_id, some)
        refused, dropped = reading.refused, reading.dropped
        if refused or dropped:
            self.counts.dropped += len(dropped)
            self._work(self._end([*refused, *dropped], refused), [*refused, *dropped])

    def _line_up(self, run_id: str, some: list[Sourced[Said]]) -> None:
        lane = self._lanes.get(run_id)
        if lane is None:
            self._lanes[run_id] = some
            self._work(self._keep_applying(run_id, some), [])
        else:
            lane += some

    async def _keep_applying(self, run_id: str, lane: list[Sourced[Said]]) -> None:
        batch: list[Sourced[Said]] = []
        try:
            while lane:
                async with self._slots:
                    batch = lane[:]
                    lane.clear()
                    refused = await self._applier.apply(run_id, batch)
                await signals.reached("ingest.applied", run_id)
                await self._end([one.entry_id for one in batch], refused)
                self.counts.applied += len(batch) - len(refused)
                batch = []
        finally:
            del self._lanes[run_id]
            self._let_go([one.entry_id for one in (*batch, *lane)])

    async def _end(self, entry_ids: Sequence[str], refused: Mapping[str, Refusal]) -> None:
        """Buries what was refused, then acknowledges everything."""
        if refused:
            await self._bury(refused)
        await self._stream.acknowledge(entry_ids)
        self.counts.dead += len(refused)
        self._failures = 0
        self._let_go(entry_ids)

    async def _bury(self, refused: Mapping[str, Refusal]) -> None:
        burying = (self._stream.bury(one, self._in_flight[one], *refusal) for one, refusal in refused.items())
        await asyncio.gather(*burying)
        for entry_id, refusal in refused.items():
            log.warning(INGEST_DEAD, entry_id=entry_id, code=refusal.code, reason=refusal.reason)

    def _let_go(self, entry_ids: Sequence[str]) -> None:
        for entry_id in entry_ids:
            self._in_flight.pop(entry_id, None)
        self._room.set()

    def _work(self, work: Coroutine[Any, Any, None], entry_ids: Sequence[str]) -> None:
        """Runs beside the reading. What fails is let go, and found again among what was given to us."""
        task = asyncio.create_task(work, name="broker-ingest-lane")
        self._working.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._working.discard(task)
            self._let_go(entry_ids)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception):
                self._trouble = error

        task.add_done_callback(ended)
