"""One worker process of the fleet: `python -m tests.chaos.worker_process ORDERS`.

It takes its share of every run's plan from now on, and lives until it is told to go, killed or fenced.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import broker
from broker.worker.listener import WorkerSettings
from broker.worker.worker import default_worker_id
from tests.chaos.bodies import live
from tests.chaos.child import Orders, run
from tests.chaos.plan import ExecutionPlan, Kind, plan_run
from tests.chaos.truth import TruthFile, now_us
from tests.support.wait import spread

AT_ONCE = 500
START_ATTEMPTS = 4
TIMEOUT_S = 2.0
EXPECTED = (
    broker.ExecutionCancelled, broker.AlreadyClaimed, broker.AlreadyTerminal, broker.BrokerUnavailable,
    broker.Fenced, broker.ExecutionInOtherRun, RuntimeError, ExceptionGroup,
)  # fmt: skip


class WorkerProcess:
    """Starts bodies when they are due."""

    def __init__(self, orders: Orders, worker: broker.Worker, truth: TruthFile) -> None:
        self._orders = orders
        self._worker = worker
        self._truth = truth
        self._bodies: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def work(self) -> None:
        """Until it is cancelled, or fenced; a fenced one lets its bodies end and goes."""
        shape = self._orders.shape
        number = max(0, int((now_us() - self._orders.began_us) / 1e6 * shape.runs_per_s))
        while now_us() < self._orders.ends_us and not self._worker._listener.fenced:
            await spread(max(0.0, shape.due_s(number) - (now_us() - self._orders.began_us) / 1e6))
            for one in plan_run(shape, number).executions:
                self._take(one)
            number += 1
            await self._room()
        while self._bodies or not self._worker._listener.fenced:
            await spread(0.1)

    def _take(self, plan: ExecutionPlan) -> None:
        if plan.kind is Kind.GHOST:
            return
        if plan.worker == self._orders.index:
            self._later(plan.at_s, plan)
        if plan.again is not None and plan.again[0] == self._orders.index:
            self._later(plan.at_s + plan.again[1], plan)

    def _later(self, delay_s: float, plan: ExecutionPlan) -> None:
        body = asyncio.create_task(self._body(delay_s, plan))
        self._bodies.add(body)
        body.add_done_callback(self._done)

    def _done(self, body: asyncio.Task[None]) -> None:
        self._bodies.discard(body)
        self._ended.set()

    async def _room(self) -> None:
        while len(self._bodies) > AT_ONCE:
            self._ended.clear()
            await self._ended.wait()

    async def _body(self, delay_s: float, plan: ExecutionPlan) -> None:
        await spread(delay_s)
        await self._spawn(plan)

    async def _spawn(self, plan: ExecutionPlan) -> None:
        """One that cannot reach Redis tries again: the answer of a start that was made may have been lost."""
        for _ in range(START_ATTEMPTS):
            try:
                await live(self._worker, self._truth, plan, self._spawn)
            except broker.BrokerUnavailable as error:
                self._truth.write("refused", plan.execution_id, type(error).__name__)
                continue
            except EXPECTED as error:
                self._truth.write("out", plan.execution_id, type(error).__name__)
            except Exception as error:  # noqa: BLE001 - nothing else should ever come out of a block: it is a finding
                self._truth.write("surprise", plan.execution_id, repr(error))
            return


async def enter(settings: WorkerSettings, truth: TruthFile) -> broker.Worker:
    """A worker that is connected: it waits for as long as Redis is away, or its predecessor's heart beats."""
    while True:
        worker = broker.Worker.with_settings(settings)
        try:
            return await worker.__aenter__()
        except (broker.BrokerUnavailable, broker.WorkerIdInUse) as error:
            truth.write("waiting", type(error).__name__)
            await spread(0.3)


async def main(orders: Orders, truth: TruthFile) -> None:
    settings = WorkerSettings(
        orders.url, orders.worker_id or default_worker_id(), "chaos", timeout_s=TIMEOUT_S,
        heartbeat_s=orders.heartbeat_s, heartbeat_ttl_s=orders.heartbeat_ttl_s, canary_s=orders.heartbeat_s,
    )  # fmt: skip
    worker = await enter(settings, truth)
    truth.write("process", worker.worker_id, worker._listener.holder.incarnation, os.getpid())
    try:
        await WorkerProcess(orders, worker, truth).work()
    finally:
        truth.write("leaving")
        await worker.__aexit__(None, None, None)


if __name__ == "__main__":
    given = Orders.parse(sys.argv[1])
    name = f"worker-{given.index}-{os.getpid()}"
    with TruthFile(Path(given.folder) / f"{name}.jsonl") as file:
        run(main(given, file), name, Path(given.folder))
