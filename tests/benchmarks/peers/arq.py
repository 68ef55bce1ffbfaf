"""arq: `Job.abort()`, with a worker that has `allow_abort_jobs`."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.peers.contender import Contender, Variant
from tests.benchmarks.peers.program import LONG_S, Answer, Enqueued, Settings, ask, hold, run

CONTENDER = Contender(
    name="arq",
    requirements=("arq==0.28.0",),
    shown=("arq", "redis"),
    knows="Job.abort() returns True; False means that it does not know",
    variants=(Variant("0.5 s poll"), Variant("50 ms poll", {"poll_s": 0.05})),
)


async def task(_context: dict[str, Any], number: int) -> None:
    await hold(number)


def worker(settings: Settings) -> None:
    from arq.connections import RedisSettings
    from arq.worker import Worker, func

    asyncio.set_event_loop(asyncio.new_event_loop())
    Worker(
        functions=[func(task, name="task", timeout=LONG_S)],
        redis_settings=RedisSettings.from_dsn(settings.url),
        allow_abort_jobs=True,
        max_jobs=settings.at_a_time,
        poll_delay=settings.options.get("poll_s", 0.5),
    ).run()


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    from arq import create_pool
    from arq.connections import RedisSettings

    poll_s = settings.options.get("poll_s", 0.5)

    async def abort(job: Any) -> tuple[bool, str]:
        aborted = await job.abort(timeout=settings.patience_s, poll_delay=poll_s)
        return aborted, str(aborted)

    pool = await create_pool(RedisSettings.from_dsn(settings.url))
    jobs = [await pool.enqueue_job("task", number) for number in range(settings.tasks)]
    await enqueued()
    return await asyncio.gather(*(ask(settings, number, abort(job)) for number, job in enumerate(jobs)))


if __name__ == "__main__":
    run(worker, caller)
