"""A worker program in Python as `broker conformance` starts it: `python -m tests.support.harness_worker`."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from redis.asyncio import Redis

from broker import ExecutionCancelled, Worker
from broker.worker.listener import WorkerSettings
from broker.worker.worker import default_worker_id
from tests.support.wait import spread

LOOK_EVERY_S = 0.02


async def contains(client: Redis, key: str, execution_id: str) -> None:
    while not await client.sismember(key, execution_id):
        await spread(LOOK_EVERY_S)


async def body(client: Redis, execution_id: str) -> None:
    """Until it may end and, once it is cancelled, until it may stop."""
    end_key, stop_key = os.environ.get("BROKER_END_KEY"), os.environ.get("BROKER_STOP_KEY")
    try:
        if end_key:
            await contains(client, end_key, execution_id)
        else:
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if stop_key:
            await contains(client, stop_key, execution_id)
        raise


async def work(worker: Worker, client: Redis, execution_id: str) -> None:
    with suppress(ExecutionCancelled):
        async with worker.execution(os.environ["BROKER_RUN_ID"], execution_id):
            await body(client, execution_id)


async def main() -> None:
    settings = WorkerSettings(
        os.environ["BROKER_REDIS_URL"],
        os.environ.get("BROKER_WORKER_ID") or default_worker_id(),
        namespace=os.environ.get("BROKER_NAMESPACE") or "cb",
        heartbeat_s=float(os.environ.get("BROKER_HEARTBEAT_MS") or 5000) / 1000,
    )
    client = Redis.from_url(os.environ["BROKER_REDIS_URL"])
    async with client, Worker.with_settings(settings) as worker:
        await asyncio.gather(*(work(worker, client, one) for one in os.environ["BROKER_EXECUTION_IDS"].split()))


if __name__ == "__main__":
    asyncio.run(main())
