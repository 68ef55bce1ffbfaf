"""The bare memory: a hash field and a confirmed subscription in Redis, a task that waits in a process."""

import asyncio
import gc
import os

from redis.asyncio import Redis

from tests.benchmarks.figure_memory import used
from tests.benchmarks.floor_fanout_worker import EXECUTIONS, SUBSCRIBE, channel
from tests.benchmarks.forest import execution_id, parent_id
from tests.benchmarks.harness import Link, process
from tests.benchmarks.process_cost import memory_bytes


async def measure(url: str, executions: int) -> dict[str, float]:
    """Bytes for each: of Redis, and of the process that is subscribed."""
    async with Redis.from_url(url) as client, process(stand, url, executions) as subscriber:
        await subscriber.receive()
        before = await used(client)
        subscriber.send("go on")
        subscriber_bytes = await subscriber.receive()
        return {
            "redis_held": (await used(client) - before) / executions,
            "worker_held": subscriber_bytes / executions,
        }


async def stand(link: Link, url: str, executions: int) -> None:
    async with Redis.from_url(url) as client, client.pubsub() as subscription:
        await subscription.subscribe(channel("first"))
        await client.ping()
        link.send("ready")
        await link.receive()
        gc.collect()
        before = memory_bytes(os.getpid())
        for first in range(0, executions, SUBSCRIBE):
            page = range(first, min(first + SUBSCRIBE, executions))
            await client.hset(EXECUTIONS, mapping={execution_id(i): f"running|{parent_id(i) or ''}" for i in page})
            await subscription.subscribe(*(channel(execution_id(index)) for index in page))
            for _ in page:
                await subscription.parse_response()
        waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(executions)]
        await asyncio.sleep(0)
        gc.collect()
        link.send(memory_bytes(os.getpid()) - before)
        try:
            await link.receive()
        finally:
            for one in waiting:
                one.cancel()
