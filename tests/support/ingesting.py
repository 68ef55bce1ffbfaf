"""Replicas that consume, opened by hand, and events as any control plane would XADD them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from broker.ingest.consumer import Consumer, IngestSettings
from broker.store.streams import EventStream
from tests.support.parts import Parts, open_parts
from tests.support.wait import wait_until

RUN = "run-1"
SELDOM_S = 3600.0
"""What nobody asks for while a test runs."""
PATIENT = IngestSettings(block=0.2, idle=SELDOM_S, takeover=SELDOM_S, trim=SELDOM_S, forget=SELDOM_S)


def event(kind: str, execution_id: str | None = None, at: int | None = None, run: str = RUN, **fields: Any) -> str:
    """One event as text; `at` is its minute on a day that is over."""
    said: dict[str, Any] = {"v": 1, "type": kind, "run_id": run}
    if execution_id is not None:
        said["execution_id"] = execution_id
    if at is not None:
        said["occurred_at"] = f"2026-01-01T{at // 60:02}:{at % 60:02}:00Z"
    return json.dumps(said | fields)


def status(word: str, execution_id: str, at: int | None = None, **fields: Any) -> str:
    return event(f"execution.{word}", execution_id, at, **fields)


class Replica:
    """One consumer and its parts."""

    def __init__(self, url: str, parts: Parts, consumer: Consumer, stream: EventStream) -> None:
        self.url, self.parts, self.consumer, self.stream = url, parts, consumer, stream

    async def xadd(self, *events: str | bytes, field: str = "event") -> list[str]:
        """As a control plane in any language does it: one XADD after the other."""
        async with Redis.from_url(self.url, decode_responses=True) as client:
            return [str(await client.xadd("cb:events", {field: one})) for one in events]

    async def done(self, dead: int | None = None) -> None:
        """Everything that was published is applied or buried."""

        async def is_done() -> bool:
            state = await self.stream.state()
            return state.backlog == 0 and state.pending == 0 and (dead is None or state.dead == dead)

        await wait_until(is_done, "the whole stream to be applied", timeout=30.0)

    async def say(self, *events: str | bytes) -> None:
        await self.xadd(*events)
        await self.done()

    async def statuses(self, run: str = RUN) -> dict[str, str]:
        return {one: record.raw_status for one, record in (await self.parts.reads.executions(run)).items()}

    async def refusals(self) -> list[tuple[str, str]]:
        return [(one.code, one.reason) for one in await self.stream.dead()]


@asynccontextmanager
async def open_replica(
    url: str, name: str = "replica-1", *, started: bool = True, **changes: float
) -> AsyncIterator[Replica]:
    async with open_parts(url, name) as parts:
        stream = EventStream(parts.backend, name)
        settings = replace(PATIENT, **changes)  # type: ignore[arg-type]
        consumer = Consumer.connect(url, parts.backend, stream, parts.engine, settings)
        replica = Replica(url, parts, consumer, stream)
        if started:
            consumer.start()
        try:
            yield replica
        finally:
            await consumer.close(0.5)


async def pending_of(url: str) -> dict[str, int]:
    """Consumer → entries it has not acknowledged."""
    async with Redis.from_url(url, decode_responses=True) as client:
        consumers = await client.xinfo_consumers("cb:events", "ingest")
        return {str(one["name"]): int(one["pending"]) for one in consumers}


def shuffled_with_duplicates(events: Iterable[str], random: Any, share: float = 0.05) -> list[str]:
    once = list(events)
    everything = once + [one for one in once if random.random() < share]
    random.shuffle(everything)
    return everything
