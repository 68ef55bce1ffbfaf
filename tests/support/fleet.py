"""A control plane and a worker on one Redis, and bodies that a test holds in its hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis

import broker
from broker.protocol.records import AckRecord
from broker.worker.listener import WorkerSettings
from tests.support.parts import Parts, open_parts
from tests.support.points import PATIENCE_S
from tests.support.wait import wait_until

RUN = "run-1"
SELDOM_S = 3600.0
"""A heartbeat that does not come while a test runs: then the poll cannot be what delivered."""


class Body:
    """One execution in a task of its own: it stands `inside` until `go_on`, unless it has other work."""

    def __init__(
        self, worker: broker.Worker, execution_id: str, work: Callable[[Body], Awaitable[object]] | None = None
    ) -> None:
        self.execution = worker.execution(RUN, execution_id)
        self.steps: list[str] = []
        self.inside = asyncio.Event()
        self.go_on = asyncio.Event()
        self.task = asyncio.create_task(self._run(work or Body.wait), name=execution_id)

    async def _run(self, work: Callable[[Body], Awaitable[object]]) -> object:
        async with self.execution:
            self.steps.append("first line")
            self.inside.set()
            return await work(self)

    async def wait(self) -> None:
        await self.go_on.wait()

    async def begun(self) -> Body:
        """Returns when the body stands at its first line. Raises what kept it from it."""
        begun = asyncio.ensure_future(self.inside.wait())
        await asyncio.wait({begun, self.task}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if not self.inside.is_set():
            await self.task
        return self

    async def end(self) -> BaseException | None:
        """What came out of the block, None where nothing did."""
        done, _ = await asyncio.wait({self.task}, timeout=PATIENCE_S)
        assert done, f"{self.task.get_name()} did not end"
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()


@dataclass(frozen=True)
class Fleet:
    """One worker, one `connect()` without a sweep, and the parts to look at what stands in Redis."""

    url: str
    control: broker.Broker
    worker: broker.Worker
    parts: Parts

    def body(self, execution_id: str, work: Callable[[Body], Awaitable[object]] | None = None) -> Body:
        return Body(self.worker, execution_id, work)

    async def cause_of(self, execution_id: str) -> str | None:
        """Why it is still running, None where it is not."""
        running = (await self.control.report(RUN)).still_running
        return next((one.cause.value for one in running if one.execution_id == execution_id), None)

    async def until_cause(self, execution_id: str, cause: str) -> None:
        async def is_so() -> bool:
            return await self.cause_of(execution_id) == cause

        await wait_until(is_so, f"{execution_id} to be reported as {cause}")

    async def settled_ack(self, execution_id: str) -> AckRecord:
        """What was said of its end, once that is written."""

        async def settled() -> AckRecord | None:
            ack = await self.parts.ack_of(RUN, execution_id)
            return ack if ack and ack.settled_at_us else None

        ack = await wait_until(settled, f"{execution_id} to be settled")
        assert ack is not None
        return ack

    async def kill_pubsub(self) -> int:
        """`CLIENT KILL TYPE pubsub`: how many connections it closed."""
        async with Redis.from_url(self.url) as client:
            return int(await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))  # type: ignore[no-untyped-call]


def settings(url: str, worker_id: str = "w1", **changes: Any) -> WorkerSettings:
    return replace(WorkerSettings(url=url, worker_id=worker_id, heartbeat_s=SELDOM_S, heartbeat_ttl_s=60.0), **changes)


@asynccontextmanager
async def open_fleet(url: str, **changes: Any) -> AsyncIterator[Fleet]:
    """A fleet whose worker has these settings; its heart beats once, at the start, unless they say otherwise."""
    async with (
        broker.connect(url, sweep=False) as control,
        open_parts(url) as parts,
        broker.Worker.with_settings(settings(url, **changes)) as worker,
    ):
        yield Fleet(url, control, worker, parts)
