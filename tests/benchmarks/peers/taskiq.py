"""taskiq-cancellation: `cancel()` with the task's id, then its result."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.peers.contender import Contender
from tests.benchmarks.peers.program import Answer, Enqueued, Settings, ask, hold, run

CONTENDER = Contender(
    name="taskiq-cancellation",
    requirements=("taskiq-cancellation==0.0.1", "taskiq==0.11.20", "taskiq-redis"),  # newer taskiq breaks its imports
    shown=("taskiq-cancellation", "taskiq", "redis"),
    knows="the task's result is a TaskCancellationException",
)


def parts(settings: Settings) -> tuple[Any, Any, Any]:
    """Broker, cancellation backend and task, as in its manual."""
    from taskiq_cancellation.backends.redis import RedisCancellationBackend
    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

    results: Any = RedisAsyncResultBackend(settings.url)
    broker = ListQueueBroker(settings.url).with_result_backend(results)
    backend = RedisCancellationBackend(settings.url).with_broker(broker)
    task = broker.task(task_name="task")(backend.cancellable(hold))
    return broker, backend, task


def worker(settings: Settings) -> None:
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    from taskiq.api import run_receiver_task

    broker, _, _ = parts(settings)
    # A receiver takes one more than it may run, so the two share all of them as they come.
    await run_receiver_task(broker, max_async_tasks=settings.tasks, run_startup=True)


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    broker, backend, task = parts(settings)

    async def cancel(sent: Any) -> tuple[bool, str]:
        await backend.cancel(sent.task_id)
        result = await sent.wait_result(check_interval=0.01, timeout=settings.patience_s)
        name = type(result.error).__name__
        return name == "TaskCancellationException", name

    await broker.startup()
    sent = [await task.kiq(number) for number in range(settings.tasks)]
    await enqueued()
    answers = await asyncio.gather(*(ask(settings, number, cancel(one)) for number, one in enumerate(sent)))
    await broker.shutdown()
    return answers


if __name__ == "__main__":
    run(worker, caller)
