"""This project: one run, `cancel_run` with `wait`."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from tests.benchmarks.peers.contender import Contender
from tests.benchmarks.peers.program import Answer, Enqueued, Settings, hold, run

CONTENDER = Contender(
    name="this project",
    requirements=(),
    shown=("cancellation-broker", "redis", "hiredis"),
    knows="cancel_run(wait=) answers: settled, nothing still running",
)
RUN = "run"


def worker(settings: Settings) -> None:
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    """Its share of the tasks; a second process with its worker id proves that the first is gone."""
    import broker

    async def body(task: int) -> None:
        with contextlib.suppress(broker.ExecutionCancelled):
            async with own.execution(RUN, f"task-{task}"):
                await hold(task)

    async with broker.Worker(settings.url, worker_id=f"worker-{settings.worker}") as own:
        first = settings.worker * settings.at_a_time
        await asyncio.gather(*(body(task) for task in range(first, min(first + settings.at_a_time, settings.tasks))))
        await asyncio.Event().wait()


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    import broker

    async with broker.connect(settings.url) as b:
        await enqueued()
        report = await b.cancel_run(RUN, reason="benchmark", requested_by="ops@example", wait=settings.patience_s)
        known_ns = time.monotonic_ns()
        running = {one.execution_id: f"still running: {one.cause}" for one in report.still_running}
    ended = "settled: " + ", ".join(str(name) for name, count in report.dispositions.items() if count)
    return [
        Answer(task, name not in running, known_ns, running.get(name, ended))
        for task in range(settings.tasks)
        for name in [f"task-{task}"]
    ]


if __name__ == "__main__":
    run(worker, caller)
