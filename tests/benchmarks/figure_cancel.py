"""The figure beside F2: cancel a run of N running executions until every stop is confirmed, two worker processes."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence

import broker
from tests.benchmarks.forest import ParentOf, execution_id, parent_id, share
from tests.benchmarks.harness import Link, process
from tests.benchmarks.percentile import spread_ms
from tests.benchmarks.process_cost import Spent
from tests.benchmarks.redis_process import redis_pid
from tests.benchmarks.slow_scripts import watching_scripts

WORKERS = 2
REGISTER = 10_000  # executions per call
STARTS = 256  # that one worker has under way at a time; it is not what is measured
PATIENCE_S = 240.0
HELD_S = 600.0


async def measure(url: str, executions: int, parent_of: ParentOf = parent_id) -> dict[str, float]:
    """Milliseconds from the call until the last body has stopped, and until the caller knows; microseconds of processor
    time for each execution. A false report fails."""
    run = f"run-{executions}"
    async with contextlib.AsyncExitStack() as stack:
        b = await stack.enter_async_context(broker.connect(url))
        scripts = await stack.enter_async_context(watching_scripts(url))
        await register(b, run, executions, parent_of)
        starting = [process(hold, url, run, executions, worker, parent_of) for worker in range(WORKERS)]
        workers = [await stack.enter_async_context(context) for context in starting]
        for worker in workers:
            await worker.receive(HELD_S)

        pids = {"broker": [os.getpid()], "redis": [await redis_pid(url)], "workers": [worker.pid for worker in workers]}
        spent = Spent(pids)
        called_ns = time.monotonic_ns()
        report = await b.cancel_run(run, reason="benchmark", requested_by="ops@example", wait=PATIENCE_S)
        known_ns = time.monotonic_ns()
        spent_us = spent.per_us(executions)

        if report.state != "settled" or report.still_running:
            raise RuntimeError(f"{report.state}, still running: {report.still_running[:3]}")
        stops_ns: list[int] = [stop_ns for worker in workers for stop_ns in await worker.receive()]
        longest_ms = await scripts.longest_ms()
    if len(stops_ns) != executions:
        raise RuntimeError(f"{len(stops_ns)} of {executions} bodies were cancelled")
    return {**_times_ms(called_ns, known_ns, stops_ns), "longest_script": longest_ms, **spent_us}


def _times_ms(called_ns: int, known_ns: int, stops_ns: Sequence[int]) -> dict[str, float]:
    if max(stops_ns) > known_ns:
        raise RuntimeError(f"settled {(max(stops_ns) - known_ns) / 1e6:.3f} ms before the last body had stopped")
    confirmed_ms = (known_ns - called_ns) / 1e6
    return {
        "confirmed": confirmed_ms,
        "last_stop": (max(stops_ns) - called_ns) / 1e6,
        "per_execution": confirmed_ms / len(stops_ns),
        **spread_ms("stop", [stop_ns - called_ns for stop_ns in stops_ns]),
    }


async def register(b: broker.Broker, run: str, executions: int, parent_of: ParentOf) -> None:
    for first in range(0, executions, REGISTER):
        page = range(first, min(first + REGISTER, executions))
        await b.register(run, [broker.Execution(execution_id(i), parent_execution_id=parent_of(i)) for i in page])


async def hold(link: Link, url: str, run: str, executions: int, worker_index: int, parent_of: ParentOf) -> None:
    """Starts its share; says "held" when all of it runs, then, when all of it was cancelled, when each body stopped."""
    indexes = share(executions, worker_index, WORKERS)
    starts = asyncio.Semaphore(STARTS)
    waiting = set(indexes)
    held = asyncio.Event()
    stops_ns: list[int] = []

    async def body(worker: broker.Worker, index: int) -> None:
        await starts.acquire()
        with contextlib.suppress(broker.ExecutionCancelled):
            async with worker.execution(run, execution_id(index), parent_execution_id=parent_of(index)):
                starts.release()
                waiting.discard(index)
                if not waiting:
                    held.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    stops_ns.append(time.monotonic_ns())

    async with broker.Worker(url) as worker, asyncio.TaskGroup() as bodies:
        for index in indexes:
            bodies.create_task(body(worker, index))
        await held.wait()
        link.send("held")
    link.send(stops_ns)
