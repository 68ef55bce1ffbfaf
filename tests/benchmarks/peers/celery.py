"""Celery, prefork: `revoke(terminate=True, reply=True)`, then the state of every result."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.peers.contender import Contender
from tests.benchmarks.peers.program import Answer, Enqueued, Settings, ask, hold_thread, run

CONTENDER = Contender(
    name="Celery prefork",
    requirements=("celery[redis]==5.7.0",),
    shown=("celery", "kombu", "redis"),
    knows="revoke(terminate=True, reply=True) has replied and the result's state is REVOKED",
    workers=1,
    largest=100,
    why_not_more="a process per task",
)
POLL_S = 0.01
ENDED = ("REVOKED", "SUCCESS", "FAILURE")


def application(settings: Settings) -> Any:
    from celery import Celery

    app = Celery("benchmark", broker=settings.url, backend=settings.url)
    app.conf.update(worker_prefetch_multiplier=1, worker_hijack_root_logger=False)
    app.task(name="task")(hold_thread)
    return app


def worker(settings: Settings) -> None:
    os.environ["C_FORCE_ROOT"] = "1"  # a benchmark may run in a container as root
    arguments = ["worker", "--pool=prefork", f"--concurrency={settings.at_a_time}", "--loglevel=ERROR"]
    application(settings).worker_main(arguments)


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    app = application(settings)
    results = [app.send_task("task", args=[number]) for number in range(settings.tasks)]
    await enqueued()
    named = [result.id for result in results]
    replies = await asyncio.to_thread(app.control.revoke, named, terminate=True, reply=True, limit=1)

    async def revoked(result: Any) -> tuple[bool, str]:
        while (state := result.state) not in ENDED:  # noqa: ASYNC110 - a result is asked for
            await asyncio.sleep(POLL_S)
        return state == "REVOKED", f"{state}, {'a reply' if replies else 'no reply'}"

    return await asyncio.gather(*(ask(settings, number, revoked(one)) for number, one in enumerate(results)))


if __name__ == "__main__":
    run(worker, caller)
