"""One run that somebody looks at: hears its acks once, reads its log and its operations once, for all streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from broker.cancel.follow import LOOK_EVERY_S, AckFeed
from broker.cancel.live.events import Acked, Event, Noted, OperationChanged, never_started
from broker.cancel.live.stream import RunStream
from broker.errors import BrokerError, NotFound
from broker.observe import signals
from broker.observe.events import LIVE_LOOK_FAILED
from broker.observe.log import get_logger
from broker.protocol.messages import AcksMessage
from broker.protocol.records import OperationRecord
from broker.store.reads import Reads

log = get_logger("broker.live")


class RunHub:
    """`streams` are told everything that happens from `opened()` on; `position` is how far the log was told."""

    def __init__(self, run_id: str, feed: AckFeed, reads: Reads) -> None:
        self.run_id = run_id
        self.reads = reads
        self.position = "0-0"
        self.streams: set[RunStream] = set()
        self._feed = feed
        self._operations: dict[str, OperationRecord] = {}
        self._news = asyncio.Event()
        self._working = asyncio.create_task(self._open(), name=f"live-{run_id}")
        self._looking: asyncio.Task[None] | None = None

    async def opened(self) -> None:
        """Returns when the acks are subscribed to, and that is confirmed. Raises BrokerError."""
        await asyncio.shield(self._working)

    async def close(self) -> None:
        """Nothing of it is left, neither a task nor a subscription."""
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
            await self._feed.leave(self.run_id, self._hear)

    async def _open(self) -> None:
        await self._feed.join(self.run_id, self._hear)
        try:
            self.position = await self.reads.log_end(self.run_id)
            self._operations = {one.cancel_id: one for one in await self.reads.operations(self.run_id)}
        except BaseException:
            await self._feed.leave(self.run_id, self._hear)
            raise
        self._looking = asyncio.create_task(self._look_for_ever(), name=f"live-look-{self.run_id}")

    def _hear(self, message: AcksMessage | None) -> None:
        if message is None:
            for stream in self.streams:
                stream.miss()
            self._news.set()
            return
        at_us = int(message.at_us)
        self._tell(Acked(execution_id, word, at_us) for execution_id, word in message.acks)
        if message.settled:
            self._news.set()

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            for stream in self.streams:
                stream.put(event)

    async def _look_for_ever(self) -> None:
        """The log and the operations have no channel: they are read when something ended, and every second."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                pass  # a look is due
            self._news.clear()
            try:
                await self._look()
            except BrokerError as error:
                log.warning(LIVE_LOOK_FAILED, run_id=self.run_id, error=str(error))

    async def _look(self) -> None:
        entries = await self.reads.log(self.run_id, self.position)
        operations = await self.reads.operations(self.run_id)
        outstanding = await self.reads.unsettled_count(self.run_id)
        if any(entry.event == "published" for entry in entries):
            self._tell(never_started(await self.reads.acks(self.run_id)))
        if entries:
            self.position = entries[-1].position
        self._tell(map(Noted, entries))
        changed = [one for one in operations if self._is_news(one)]
        self._operations = {one.cancel_id: one for one in operations}
        self._tell(OperationChanged(one, outstanding) for one in changed)
        await signals.reached("live.looked", self.run_id)

    def _is_news(self, operation: OperationRecord) -> bool:
        before = self._operations.get(operation.cancel_id)
        return before is None or _visible(before) != _visible(operation)


def _visible(operation: OperationRecord) -> tuple[object, ...]:
    """What people are shown of it: leases come and go."""
    return (
        operation.state, operation.phase, operation.dirty, operation.deadline_us, operation.force_after_us,
        operation.settled_at_us, operation.remarked,
    )  # fmt: skip


class LiveRuns:
    """The runs that somebody of this process looks at."""

    def __init__(self, feed: AckFeed, reads: Reads, now_us: Callable[[], Awaitable[int]]) -> None:
        self._feed = feed
        self._reads = reads
        self._now_us = now_us
        self._hubs: dict[str, RunHub] = {}

    @property
    def followed(self) -> frozenset[str]:
        """The runs that are subscribed to for streams."""
        return frozenset(self._hubs)

    async def join(self, run_id: str, limit: int) -> RunStream:
        """A stream that hears everything from now on; `leave` frees it. Raises NotFound, BrokerUnavailable."""
        if not (await self._reads.run_state(run_id)).exists and not await self._reads.operations(run_id):
            raise NotFound(f"run {run_id} not found")
        hub = self._hubs.get(run_id)
        if hub is None:
            hub = self._hubs[run_id] = RunHub(run_id, self._feed, self._reads)
        stream = RunStream(run_id, hub, self._reads, self._now_us, limit)
        hub.streams.add(stream)
        try:
            await hub.opened()
        except BaseException:
            await self.leave(stream)
            raise
        return stream

    async def leave(self, stream: RunStream) -> None:
        hub = stream.hub
        hub.streams.discard(stream)
        if not hub.streams and self._hubs.get(hub.run_id) is hub:
            del self._hubs[hub.run_id]
            await hub.close()

    async def close(self) -> None:
        hubs = list(self._hubs.values())
        self._hubs.clear()
        for hub in hubs:
            await hub.close()
