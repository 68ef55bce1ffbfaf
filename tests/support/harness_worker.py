"""A worker program in Python as `broker conformance` starts it: `python -m tests.support.harness_worker`."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from broker import ExecutionCancelled, Worker
from broker.worker.listener import WorkerSettings
from broker.worker.worker import default_worker_id
from tests.support.wait import spread

FOR_EVER_MS = 3_600_000.0


def seconds(name: str, fallback_ms: float) -> float:
    return float(os.environ.get(name) or fallback_ms) / 1000


async def work(worker: Worker, execution_id: str) -> None:
    with suppress(ExecutionCancelled):
        async with worker.execution(os.environ["BROKER_RUN_ID"], execution_id):
            try:
                await spread(seconds("BROKER_WORK_MS", FOR_EVER_MS))
            except asyncio.CancelledError:
                await spread(seconds("BROKER_STOP_MS", 0.0))
                raise


async def main() -> None:
    settings = WorkerSettings(
        os.environ["BROKER_REDIS_URL"],
        os.environ.get("BROKER_WORKER_ID") or default_worker_id(),
        namespace=os.environ.get("BROKER_NAMESPACE") or "cb",
        heartbeat_s=seconds("BROKER_HEARTBEAT_MS", 5000.0),
    )
    async with Worker.with_settings(settings) as worker:
        await asyncio.gather(*(work(worker, one) for one in os.environ["BROKER_EXECUTION_IDS"].split()))


if __name__ == "__main__":
    asyncio.run(main())
