"""Redis memory for each execution that is held, subscription and client buffers included, and after its end.

`python -m tests.benchmarks.memory`: one worker process holds 10,000 executions of one run, all below one parent, with
ids of 37 characters. Redis's own `used_memory`, before and after; what is fixed (the scripts) is shared by them.
"""

import asyncio
import sys
import uuid

import redis

import broker
from tests.support.redis_server import RedisServer

EXECUTIONS = 10_000
TARGET = 700


def new_id() -> str:
    return f"e{uuid.uuid4()}"


class Hold:
    """Executions that stay until they are let go."""

    def __init__(self, worker: broker.Worker) -> None:
        self._worker = worker
        self._run, self._root = new_id(), new_id()
        self._held = 0
        self.all_held, self.end = asyncio.Event(), asyncio.Event()

    async def one(self, number: int) -> None:
        name, parent = (new_id(), self._root) if number else (self._root, None)
        async with self._worker.execution(self._run, name, parent_execution_id=parent):
            self._held += 1
            if self._held == EXECUTIONS:
                self.all_held.set()
            await self.end.wait()


async def measure(url: str) -> int:
    def used() -> int:
        with redis.Redis.from_url(url) as client:
            return int(client.info("memory")["used_memory"])

    async with broker.Worker(url, worker_id="w-1", agent_node_id="gpu-7") as worker:
        before, hold = used(), Hold(worker)
        bodies = [asyncio.create_task(hold.one(number)) for number in range(EXECUTIONS)]
        await hold.all_held.wait()
        active = (used() - before) / EXECUTIONS
        hold.end.set()
        await asyncio.gather(*bodies)
        ended = (used() - before) / EXECUTIONS
    print(f"{active:.0f} B for each of {EXECUTIONS:,} held (target <= {TARGET}), {ended:.0f} B for each that has ended")
    return 0 if active <= TARGET else 1


if __name__ == "__main__":
    with RedisServer() as redis_server:
        sys.exit(asyncio.run(measure(redis_server.url)))
