"""Following a cancel: ack messages are the fast path, a look every second is the truth."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

from broker.errors import InvalidInput
from broker.observe.events import MESSAGE_REFUSED
from broker.observe.log import get_logger
from broker.protocol.messages import AcksMessage, parse_acks
from broker.protocol.records import OperationRecord
from broker.store.reads import Reads
from broker.store.subscriptions import Subscriptions

log = get_logger("broker.cancel")

LOOK_EVERY_S = 1.0
Hearer = Callable[[AcksMessage | None], None]


class AckFeed:
    """The ack messages of all runs that somebody in this process follows; one subscription a run.

    A hearer is called with each message, and with None when messages may have been missed.
    """

    def __init__(self, channel_of: Callable[[str], str]) -> None:
        self._channel_of = channel_of
        self._hearers: defaultdict[str, list[Hearer]] = defaultdict(list)
        self._subscribing: dict[str, asyncio.Task[None]] = {}
        self.subscriptions: Subscriptions

    async def join(self, run_id: str, hearer: Hearer) -> None:
        """Returns when the subscription is confirmed. Raises BrokerUnavailable."""
        self._hearers[run_id].append(hearer)
        if run_id not in self._subscribing:
            subscribe = self.subscriptions.subscribe(self._channel_of(run_id), lambda raw: self._hear(run_id, raw))
            self._subscribing[run_id] = asyncio.create_task(subscribe)
        try:
            await asyncio.shield(self._subscribing[run_id])
        except BaseException:
            await self.leave(run_id, hearer)
            raise

    async def leave(self, run_id: str, hearer: Hearer) -> None:
        self._hearers[run_id].remove(hearer)
        if not self._hearers[run_id]:
            del self._hearers[run_id]
            subscribing = self._subscribing.pop(run_id)
            await self.subscriptions.unsubscribe(self._channel_of(run_id))
            await asyncio.gather(subscribing, return_exceptions=True)

    def missed(self, channels: frozenset[str]) -> None:
        """Called at every confirmation: what was published before it may be gone."""
        for run_id, hearers in self._hearers.items():
            if self._channel_of(run_id) in channels:
                for hearer in hearers:
                    hearer(None)

    def _hear(self, run_id: str, payload: bytes) -> None:
        try:
            message = parse_acks(payload)
        except InvalidInput as error:
            log.warning(MESSAGE_REFUSED, run_id=run_id, error=str(error))
            return
        if message is not None:
            for hearer in self._hearers.get(run_id, ()):
                hearer(message)


class Follower:
    """Hears the acks of one run while its block runs; before `listen` it hears nothing."""

    def __init__(self, feed: AckFeed, reads: Reads, run_id: str) -> None:
        self._feed = feed
        self._reads = reads
        self._run_id = run_id
        self._listening = False
        self._counting = False
        self._outstanding: set[str] = set()
        self._ended: set[str] = set()
        self._settled: set[str] = set()
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._listening:
            self._listening = False
            await self._feed.leave(self._run_id, self._hear)

    async def listen(self, *, to_each: bool = False) -> None:
        """From here on nothing is missed that a look would not find. Raises BrokerUnavailable.

        `to_each` for whoever expects executions: who waits for the operation needs none of their names.
        """
        self._counting = self._counting or to_each
        if not self._listening:
            await self._feed.join(self._run_id, self._hear)
            self._listening = True

    def expect(self, execution_ids: Iterable[str]) -> None:
        """These were told, and are waited for; an answer may have come before the question returned."""
        if self._counting:
            self._outstanding.update(one for one in execution_ids if one not in self._ended)

    async def wait_all_settled(self, seconds: float) -> None:
        """Waits until everything expected is settled, or the time is over."""
        ends_at = asyncio.get_running_loop().time() + seconds
        while self._outstanding:
            self._outstanding &= await self._reads.still_unsettled(self._run_id, self._outstanding)
            if not self._outstanding or not await self._wait_news(ends_at):
                break
        self._outstanding.clear()

    async def wait_settled(
        self, operation: OperationRecord, ends_at: float, settle: Callable[[], Awaitable[str]]
    ) -> None:
        """Waits until the operation is settled, or `ends_at` on the loop's clock."""
        while operation.cancel_id not in self._settled:
            if await settle() in ("settled", "gone") or not await self._wait_news(ends_at):
                return

    async def _wait_news(self, ends_at: float) -> bool:
        """True after news or a second, False when the time is over."""
        left = ends_at - asyncio.get_running_loop().time()
        if left <= 0:
            return False
        try:
            async with asyncio.timeout(min(LOOK_EVERY_S, left)):
                await self._news.wait()
        except TimeoutError:
            pass  # a look is due
        self._news.clear()
        return True

    def _hear(self, message: AcksMessage | None) -> None:
        if message is None:
            self._news.set()
            return
        self._settled.update(message.settled)
        if self._counting:
            self._count(message)
        if message.settled:
            self._news.set()

    def _count(self, message: AcksMessage) -> None:
        ended = {execution_id for execution_id, said in message.acks if said.settled}
        self._ended |= ended
        if self._outstanding:
            self._outstanding -= ended
            if not self._outstanding:
                self._news.set()
