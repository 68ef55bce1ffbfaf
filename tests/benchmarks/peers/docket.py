"""docket: `Docket.cancel()` with a key, then the execution's result."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from tests.benchmarks.peers.contender import Contender
from tests.benchmarks.peers.program import Answer, Enqueued, Settings, ask, hold, run

CONTENDER = Contender(
    name="docket",
    requirements=("pydocket==0.27.0",),
    shown=("pydocket", "redis"),
    knows="Execution.get_result() raises ExecutionCancelled",
)
NAME = "benchmark"
CONNECTIONS = 5_000
"""The default of 100 stalls with more waiting callers than that."""


async def task(number: int) -> None:
    await hold(number)


def docket_url(settings: Settings) -> str:
    return f"{settings.url}?max_connections={CONNECTIONS}"


def worker(settings: Settings) -> None:
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    from docket import Docket, Worker

    async with Docket(name=NAME, url=docket_url(settings)) as docket:
        docket.register(task)
        async with Worker(docket, concurrency=settings.at_a_time) as own:
            await own.run_forever()


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    from docket import Docket
    from docket.execution import ExecutionCancelled

    async def cancel(docket: Any, execution: Any) -> tuple[bool, str]:
        await docket.cancel(execution.key)
        try:
            await execution.get_result(timeout=timedelta(seconds=settings.patience_s))
        except ExecutionCancelled:
            return True, "ExecutionCancelled"
        return False, "a result"

    async with Docket(name=NAME, url=docket_url(settings)) as docket:
        docket.register(task)
        executions = [await docket.add(task, key=f"task-{number}")(number) for number in range(settings.tasks)]
        await enqueued()
        return await asyncio.gather(
            *(ask(settings, number, cancel(docket, one)) for number, one in enumerate(executions))
        )


if __name__ == "__main__":
    run(worker, caller)
