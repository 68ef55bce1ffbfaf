"""The figure beside the bare memory: what one held execution takes of Redis and of its worker, subscription included.

One worker process holds them all in one run, below one parent, with ids of 37 characters.
"""

import asyncio
import gc
import os
import uuid

from redis.asyncio import Redis

import broker
from tests.benchmarks.harness import Link, process
from tests.benchmarks.process_cost import memory_bytes


async def measure(url: str, executions: int) -> dict[str, float]:
    """Bytes for each: of Redis while it is held and after its end, of the worker's resident memory while it is held."""
    async with Redis.from_url(url) as client, process(hold, url, executions) as worker:
        await worker.receive()
        before = await used(client)
        worker.send("go on")
        worker_bytes = await worker.receive()
        held = await used(client)
        worker.send("end")
        await worker.receive()
        ended = await used(client)
    return {
        "redis_held": (held - before) / executions,
        "redis_ended": (ended - before) / executions,
        "worker_held": worker_bytes / executions,
    }


async def used(client: Redis) -> int:
    return int((await client.info("memory"))["used_memory"])


async def hold(link: Link, url: str, executions: int) -> None:
    """Says "ready", then how much larger it has become when all are held, then "ended"; each when it is told to."""
    run, root, end = _name(), _name(), asyncio.Event()
    held = 0
    all_held = asyncio.Event()

    async def body(worker: broker.Worker, number: int) -> None:
        nonlocal held
        name, parent = (_name(), root) if number else (root, None)
        async with worker.execution(run, name, parent_execution_id=parent):
            held += 1
            if held == executions:
                all_held.set()
            await end.wait()

    async with broker.Worker(url, worker_id="w-1", agent_node_id="gpu-7") as worker:
        link.send("ready")
        await link.receive()
        before = _resident()
        bodies = [asyncio.create_task(body(worker, number)) for number in range(executions)]
        await all_held.wait()
        link.send(_resident() - before)
        await link.receive()
        end.set()
        await asyncio.gather(*bodies)
        link.send("ended")


def _resident() -> int:
    gc.collect()
    return memory_bytes(os.getpid())


def _name() -> str:
    return f"e{uuid.uuid4()}"
