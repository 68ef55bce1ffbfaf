"""A worker process with a stable id, for tests that stop it, continue it, and start another in its place.

`python -m tests.support.stable_worker URL RUN WORKER_ID` reads lines `hold <execution_id>` and `end <execution_id>`
and prints `ready`, `inside <execution_id>`, and `ended <execution_id> <error class, or well>`. Its heart beats often
and is soon missed. It leaves when its standard input ends and everything that it holds has ended.
"""

from __future__ import annotations

import asyncio
import sys
import threading

import broker
from broker.worker.listener import WorkerSettings

HEARTBEAT_S = 0.1
HEARTBEAT_TTL_S = 1.0


def say(*words: str) -> None:
    print(*words, flush=True)  # noqa: T201 - what the test waits for


async def hold(worker: broker.Worker, run_id: str, execution_id: str, go_on: asyncio.Event) -> None:
    try:
        async with worker.execution(run_id, execution_id):
            say("inside", execution_id)
            await go_on.wait()
    except broker.BrokerError as error:
        say("ended", execution_id, type(error).__name__)
    else:
        say("ended", execution_id, "well")


async def main(url: str, run_id: str, worker_id: str) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    settings = WorkerSettings(url, worker_id, heartbeat_s=HEARTBEAT_S, heartbeat_ttl_s=HEARTBEAT_TTL_S)
    ends: dict[str, asyncio.Event] = {}
    async with broker.Worker.with_settings(settings) as worker, asyncio.TaskGroup() as bodies:
        say("ready")
        while line := await lines.get():
            verb, execution_id = line.split()
            if verb == "hold":
                ends[execution_id] = asyncio.Event()
                bodies.create_task(hold(worker, run_id, execution_id, ends[execution_id]))
            else:
                ends[execution_id].set()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
