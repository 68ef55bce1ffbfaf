"""A worker process for tests: holds the executions named on its standard input until they are cancelled.

`python -m tests.support.fleet_worker URL RUN` reads lines `execution_id parent_execution_id`, prints `holding N`
when it is inside all of them, and `stopped N` when all of them have ended by the cancel. Whatever else happens
to a body is an error of the process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import broker


async def hold(worker: broker.Worker, run_id: str, line: str, inside: asyncio.Semaphore) -> None:
    execution_id, _, parent = line.partition(" ")
    try:
        async with worker.execution(run_id, execution_id, parent_execution_id=parent or None):
            inside.release()
            await asyncio.Event().wait()
    except broker.ExecutionCancelled:
        return
    raise AssertionError(f"{execution_id} ended without a cancel")


async def main(url: str, run_id: str, lines: Sequence[str]) -> None:
    inside = asyncio.Semaphore(0)
    async with broker.Worker(url, agent_node_id="fleet", timeout=60.0) as worker, asyncio.TaskGroup() as bodies:
        for line in lines:
            bodies.create_task(hold(worker, run_id, line, inside))
        for _ in lines:
            await inside.acquire()
        print(f"holding {len(lines)}", flush=True)  # noqa: T201 - what the test waits for
    print(f"stopped {len(lines)}", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.stdin.read().splitlines()))
