"""RQ: `send_stop_job_command()`, then the status of the job. A worker process and a work horse per task."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.peers.contender import Contender
from tests.benchmarks.peers.program import LONG_S, Answer, Enqueued, Settings, ask, hold_thread, run

CONTENDER = Contender(
    name="RQ",
    requirements=("rq==3.0.0",),
    shown=("rq", "redis"),
    knows="Job.get_status() says stopped (asked every 10 ms)",
    workers=1,
    largest=100,
    why_not_more="two processes per task",
)


def worker(settings: Settings) -> None:
    from redis import Redis
    from rq.worker_pool import WorkerPool

    WorkerPool(["default"], connection=Redis.from_url(settings.url), num_workers=settings.at_a_time).start(
        logging_level="ERROR"
    )


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    from redis import Redis
    from rq import Queue
    from rq.command import send_stop_job_command

    async def stop(job: Any) -> tuple[bool, str]:
        send_stop_job_command(connection, job.id)
        while (status := job.get_status()) == "started":  # noqa: ASYNC110 - a status is asked for
            await asyncio.sleep(0.01)
        return status == "stopped", str(status)

    connection = Redis.from_url(settings.url)
    queue = Queue(connection=connection)
    jobs = [queue.enqueue(hold_thread, number, job_timeout=int(LONG_S)) for number in range(settings.tasks)]
    await enqueued()
    return await asyncio.gather(*(ask(settings, number, stop(job)) for number, job in enumerate(jobs)))


if __name__ == "__main__":
    run(worker, caller)
