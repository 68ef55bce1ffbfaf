"""One heartbeat of a worker without Redis, and the wait for the first cancel of what it holds.

The rules of the listener hold here, too: subscribe, confirm, then read; every confirmation means read again;
and with each beat the epochs of the runs, so that push and poll are each sufficient alone.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from broker.observe import signals
from broker.protocol.records import OperationRecord
from broker.store.claims import Claims, Holder
from broker.store.keys import Keys
from broker.store.reads import Reads
from broker.worker.cancel_feed import CancelFeed
from broker.worker.told import Answered, Pending, RemoteHeld, Superseded, ToldIntent, is_superseded, pending, told

BEAT_EVERY_S = 5.0
BEAT_TTL_S = 15.0


class Beat(NamedTuple):
    """The answer to a heartbeat. `fenced`: a newer process has the worker id; stop everything."""

    incarnation: int
    fenced: bool
    intents: tuple[ToldIntent, ...] = ()
    superseded: tuple[Superseded, ...] = ()


class Parts(NamedTuple):
    """What a poll works with, the same for all of a process."""

    claims: Claims
    reads: Reads
    keys: Keys
    feed: CancelFeed
    answered: Answered


class LongPoll:
    """One call of `answer`."""

    def __init__(self, parts: Parts, holder: Holder, agent_node_id: str, held: Sequence[RemoteHeld]) -> None:
        self._parts = parts
        self._holder = holder
        self._agent_node_id = agent_node_id
        self._held = {parts.keys.cancel_channel(one.run_id, one.execution_id): one for one in held}
        self._pending: dict[str, Pending] = {}
        self._superseded: dict[str, Superseded] = {}
        self._epochs: dict[str, str] = {}
        self._heard: set[str] = set()
        self._news = asyncio.Event()
        self._released = False
        self._newest = 0
        self._beat_at = 0.0

    async def answer(self, wait_s: float) -> Beat:
        """Beats, and answers at the first news or after `wait_s`. Raises BrokerUnavailable."""
        ends_at = _now() + wait_s
        await self._beat()
        if not wait_s:
            await self._read(self._held)
            return self._answer()
        await self._parts.feed.join(self._held, self._hear)
        try:
            self._heard.clear()  # the confirmations: what they ask for is read now
            await signals.reached("poll.confirmed", self._holder.worker_id)
            await self._poll_epochs()
            await self._read(self._held)
            await signals.reached("poll.waiting", self._holder.worker_id)
            while not self._is_over(ends_at, _now()):
                await self._step(ends_at)
            if not self._is_news(_now()):
                await self._read(list(self._pending))  # what ended meanwhile was said to another request
            return self._answer()
        finally:
            self._parts.feed.leave(self._held, self._hear)

    async def _step(self, ends_at: float) -> None:
        await self._wait_news(min(ends_at, self._beat_at, *self._news_at(_now())))
        heard, self._heard = self._heard, set()
        await self._read(heard)
        if _now() >= self._beat_at:
            await self._beat()
            await self._read(await self._poll_epochs())

    def _hear(self, channel: str) -> None:
        self._heard.add(channel)
        self._news.set()

    def release(self) -> None:
        """Answers now, with what is known."""
        self._released = True
        self._news.set()

    def _is_over(self, ends_at: float, now: float) -> bool:
        fenced = self._newest > self._holder.incarnation
        return fenced or self._released or now >= ends_at or self._is_news(now)

    def _is_news(self, now: float) -> bool:
        return any(at <= now for at in self._news_at(now))

    def _news_at(self, now: float) -> list[float]:
        due = (self._parts.answered.due_at(self._holder, one, now) for one in self._told())
        return [at for at in due if at is not None]

    def _told(self) -> list[Pending | Superseded]:
        return [*self._pending.values(), *self._superseded.values()]

    async def _wait_news(self, until: float) -> None:
        """Returns after news, or at `until` on the loop's clock."""
        try:
            async with asyncio.timeout_at(until):
                await self._news.wait()
        except TimeoutError:
            pass  # a beat is due, or the poll is over
        self._news.clear()

    async def _beat(self) -> None:
        self._beat_at = _now() + BEAT_EVERY_S * random.uniform(0.8, 1.0)  # noqa: S311 - jitter
        self._newest = await self._parts.claims.heartbeat(
            self._holder, self._agent_node_id, len(self._held), BEAT_TTL_S
        )

    async def _poll_epochs(self) -> list[str]:
        """The channels of the runs whose epoch has changed; it is read before their intents are."""
        epochs = await self._parts.claims.epochs(list({one.run_id for one in self._held.values()}))
        changed = {run_id for run_id, epoch in epochs.items() if self._epochs.get(run_id) != epoch}
        self._epochs = dict(epochs)
        return [channel for channel, one in self._held.items() if one.run_id in changed]

    async def _read(self, channels: Iterable[str]) -> None:
        by_run: defaultdict[str, list[str]] = defaultdict(list)
        for channel in channels:
            by_run[self._held[channel].run_id].append(channel)
        await asyncio.gather(*(self._read_run(run_id, some) for run_id, some in by_run.items()))

    async def _read_run(self, run_id: str, channels: Sequence[str]) -> None:
        held = {self._held[channel].execution_id: channel for channel in channels}
        reads = self._parts.reads
        intents, records, slot = await asyncio.gather(
            reads.some_intents(run_id, list(held)),
            reads.some_executions(run_id, list(held)),
            reads.slot_of(run_id, self._holder.worker_id),
        )
        acks, operations = await asyncio.gather(
            reads.some_acks(run_id, list(intents)),
            self._operations(run_id, {intent.cancel_id for intent in intents.values()}),
        )
        for execution_id, channel in held.items():
            self._pending.pop(channel, None)
            self._superseded.pop(channel, None)
            record, intent = records.get(execution_id), intents.get(execution_id)
            if record and is_superseded(self._held[channel], record, slot, self._holder):
                self._superseded[channel] = Superseded(run_id, execution_id, int(record.start))
            elif intent:
                one = told(run_id, execution_id, intent.cancel_id, intent, operations[intent.cancel_id])
                if waits := pending(one, record, acks.get(execution_id)):
                    self._pending[channel] = waits

    async def _operations(self, run_id: str, cancel_ids: Collection[str]) -> dict[str, OperationRecord | None]:
        found = await asyncio.gather(*(self._parts.reads.operation(run_id, one) for one in cancel_ids))
        return dict(zip(cancel_ids, found, strict=True))

    def _answer(self) -> Beat:
        now = _now()
        for one in self._told():
            self._parts.answered.note(self._holder, one, now)
        return Beat(
            self._holder.incarnation,
            self._newest > self._holder.incarnation,
            tuple(one.intent for one in self._pending.values()),
            tuple(self._superseded.values()),
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
