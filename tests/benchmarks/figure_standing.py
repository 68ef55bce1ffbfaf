"""The figure beside the bare subscriptions: 10,000 held executions and nothing happening, in one run or in 1,000."""

import asyncio
import contextlib
import os

import broker
from tests.benchmarks.forest import execution_id
from tests.benchmarks.harness import Link, Role, process
from tests.benchmarks.process_cost import Usage
from tests.benchmarks.redis_process import redis_pid

SETTLE_S = 3.0
"""The starts are over; what they left to do shall not count."""

STARTS = 256


async def measure(url: str, executions: int, runs: int, window_s: float) -> dict[str, float]:
    """Percent of one core over the window: the worker, and Redis."""
    return await measure_standing(url, hold, executions, runs, window_s)


async def measure_standing(url: str, role: Role, executions: int, runs: int, window_s: float) -> dict[str, float]:
    """The same for the floor: `role` says its process id when all stands."""
    redis = await redis_pid(url)
    async with process(role, url, executions, runs) as worker:
        pid = await worker.receive()
        await asyncio.sleep(SETTLE_S)
        usages = {"worker": Usage.now(pid), "redis": Usage.now(redis)}
        await asyncio.sleep(window_s)
        return {name: usage.percent_since() for name, usage in usages.items()}


async def hold(link: Link, url: str, executions: int, runs: int) -> None:
    """Says its process id when all are held; ends with the pipe."""
    waiting = executions
    starts = asyncio.Semaphore(STARTS)
    held, end = asyncio.Event(), asyncio.Event()

    async def body(worker: broker.Worker, index: int) -> None:
        nonlocal waiting
        await starts.acquire()
        async with worker.execution(f"run-{index % runs}", execution_id(index)):
            starts.release()
            waiting -= 1
            if waiting == 0:
                held.set()
            await end.wait()

    async with broker.Worker(url) as worker, asyncio.TaskGroup() as bodies:
        for index in range(executions):
            bodies.create_task(body(worker, index))
        await held.wait()
        link.send(os.getpid())
        with contextlib.suppress(EOFError):
            await link.receive()
        os._exit(0)  # 10,000 orderly ends would be another benchmark
