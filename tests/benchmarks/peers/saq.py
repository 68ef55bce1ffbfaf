"""SAQ: `Job.abort()`, then `Job.refresh()` until it is aborted."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.peers.contender import Contender, Variant
from tests.benchmarks.peers.program import Answer, Enqueued, Settings, ask, hold, run

CONTENDER = Contender(
    name="SAQ",
    requirements=("saq[redis]==0.26.4", "typing-extensions"),  # it imports what it does not require
    shown=("saq", "redis"),
    knows="Job.refresh(until_complete=) returns with status aborted",
    variants=(Variant("1 s timer"), Variant("50 ms timer", {"timer_s": 0.05})),
)


async def task(_context: dict[str, Any], *, number: int) -> None:
    await hold(number)


def worker(settings: Settings) -> None:
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    from saq import Queue, Worker

    queue = Queue.from_url(settings.url)
    timers: Any = {"abort": settings.options.get("timer_s", 1)}
    await Worker(queue, functions=[("task", task)], concurrency=settings.at_a_time, timers=timers).start()


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    from saq import Queue

    async def abort(job: Any) -> tuple[bool, str]:
        await job.abort("benchmark")
        await job.refresh(until_complete=settings.patience_s)
        return job.status == "aborted", job.status.value

    queue = Queue.from_url(settings.url)
    await queue.connect()
    jobs = [await queue.enqueue("task", number=number, timeout=0) for number in range(settings.tasks)]
    await enqueued()
    return await asyncio.gather(*(ask(settings, number, abort(job)) for number, job in enumerate(jobs)))


if __name__ == "__main__":
    run(worker, caller)
