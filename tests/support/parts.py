"""The broker's parts opened by hand: what no public call reaches, and a second replica whose sweep the test runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.cancel.engine import Engine
from broker.cancel.follow import AckFeed
from broker.cancel.sweep import Sweep
from broker.protocol.records import AckRecord, IntentRecord, OperationRecord
from broker.store.backend import Backend
from broker.store.claims import Ack, Claims, End, Holder, Registration, StartAnswer
from broker.store.counts import Counts
from broker.store.keys import Lifetimes
from broker.store.operations import Operations
from broker.store.reads import Reads
from broker.store.subscriptions import Subscriptions

HOLDER = Holder("worker-1", 1)


@dataclass(frozen=True)
class Parts:
    """One replica, taken apart. Its sweep runs only when it is called."""

    backend: Backend
    claims: Claims
    reads: Reads
    operations: Operations
    engine: Engine
    sweep: Sweep

    # --- what a worker does, without a worker --------------------------------------------------------

    async def start(
        self, run_id: str, execution_id: str, *, parent: str = "", holder: Holder = HOLDER, supersedes: str = ""
    ) -> StartAnswer:
        await self.claims.index(run_id, [execution_id])
        return await self.claims.start(run_id, Registration(execution_id, "pending", parent), holder, supersedes)

    async def finish(
        self, run_id: str, execution_id: str, *, start: int = 1, status: str = "cancelled",
        disposition: str = "stopped", holder: Holder = HOLDER,
    ) -> str:  # fmt: skip
        return await self.claims.finish(run_id, holder, End(execution_id, start, status, disposition))

    async def ack(
        self, run_id: str, execution_id: str, disposition: str, *, start: int = 1, seq: int = 1, holder: Holder = HOLDER
    ) -> str:
        (code,) = await self.claims.ack(run_id, holder, [Ack(execution_id, start, seq, disposition)])
        return code

    # --- what stands in Redis ------------------------------------------------------------------------

    async def status(self, run_id: str, execution_id: str) -> str:
        record = await self.reads.execution(run_id, execution_id)
        assert record is not None, execution_id
        return record.raw_status

    async def intent(self, run_id: str, execution_id: str) -> IntentRecord | None:
        return (await self.claims.intents(run_id, [execution_id])).get(execution_id)

    async def ack_of(self, run_id: str, execution_id: str) -> AckRecord | None:
        return (await self.reads.acks(run_id)).get(execution_id)

    async def operation(self, run_id: str, cancel_id: str) -> OperationRecord:
        operation = await self.reads.operation(run_id, cancel_id)
        assert operation is not None, cancel_id
        return operation

    async def only_operation(self, run_id: str) -> OperationRecord:
        (operation,) = await self.reads.operations(run_id)
        return operation

    # --- time, without waiting ------------------------------------------------------------------------

    async def expire_lease(self, run_id: str, cancel_id: str) -> None:
        """As if the driver had been silent for the length of its lease: any replica may take over."""
        operation = await self.operation(run_id, cancel_id)
        raw = await self.backend.commands.command("HGET", self.backend.run(run_id).cancels, cancel_id)
        past = raw.replace(f'"{operation.lease_until_us}"', '"1"')
        await self.backend.commands.command("HSET", self.backend.run(run_id).cancels, cancel_id, past)

    async def sweep_now(self, run_id: str, cancel_id: str) -> None:
        """One round of the sweep in which this operation is due."""
        await self.operations.reschedule(run_id, cancel_id, 1)
        await self.sweep.once()


@asynccontextmanager
async def open_parts(url: str, driver: str = "replica-2") -> AsyncIterator[Parts]:
    backend = Backend.connect(url, namespace="cb", lifetimes=Lifetimes(), timeout_s=5.0)
    feed = AckFeed(backend.keys.ack_channel)
    feed.subscriptions = Subscriptions(url, on_confirmed=feed.missed)
    operations, reads, claims = Operations(backend, driver), Reads(backend), Claims(backend)
    engine = Engine(operations, reads, feed)
    backend.commands.on_new_server = engine.memory.server_changed
    try:
        await feed.subscriptions.start()
        sweep = Sweep(operations, reads, claims, engine, Counts(backend))
        yield Parts(backend, claims, reads, operations, engine, sweep)
    finally:
        await engine.close()
        await asyncio.gather(feed.subscriptions.close(), backend.close())
