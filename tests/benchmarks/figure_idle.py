"""The figure beside F1: one idle cancel, from the call until the body sees it in another process, one at a time."""

import asyncio
import contextlib
import time

import broker
from tests.benchmarks.floor_hop import PAUSE_S, WARM_UP
from tests.benchmarks.forest import execution_id
from tests.benchmarks.harness import Link, process
from tests.benchmarks.percentile import p50_p99_ms

RUN = "run-idle"


async def measure(url: str, cancels: int) -> dict[str, float]:
    """p50 and p99 in milliseconds. CLOCK_MONOTONIC is one clock for all processes of a Linux machine."""
    durations_ns: list[int] = []
    async with broker.connect(url) as b, process(hold, url, WARM_UP + cancels) as worker:
        await worker.receive()
        for index in range(WARM_UP + cancels):
            called_ns = time.monotonic_ns()
            await b.cancel_execution(execution_id(index), reason="benchmark", requested_by="ops@example")
            seen, seen_ns = await worker.receive()
            if seen != index:
                raise RuntimeError(f"cancelled {execution_id(index)}, but the body of {execution_id(seen)} saw it")
            durations_ns.append(seen_ns - called_ns)
            await asyncio.sleep(PAUSE_S)
    return p50_p99_ms(durations_ns[WARM_UP:])


async def hold(link: Link, url: str, executions: int) -> None:
    """Says "held" when all run; then (index, stamp) of each cancelled body, once its block has ended."""
    waiting = executions
    held = asyncio.Event()

    async def body(worker: broker.Worker, index: int) -> None:
        nonlocal waiting
        seen_ns = 0
        with contextlib.suppress(broker.ExecutionCancelled):
            async with worker.execution(RUN, execution_id(index)):
                waiting -= 1
                if waiting == 0:
                    held.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    seen_ns = time.monotonic_ns()
        link.send((index, seen_ns))

    async with broker.Worker(url) as worker, asyncio.TaskGroup() as bodies:
        for index in range(executions):
            bodies.create_task(body(worker, index))
        await held.wait()
        link.send("held")
