"""dramatiq-abort: `abort()` with a message's id. Nothing tells the caller what came of it."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.peers.contender import Contender
from tests.benchmarks.peers.program import Answer, Enqueued, Settings, hold_thread, run

CONTENDER = Contender(
    name="dramatiq-abort",
    requirements=("dramatiq-abort[redis]==1.2.1", "dramatiq[redis]==2.2.1"),
    shown=("dramatiq-abort", "dramatiq", "redis"),
    knows="never: abort() returns None",
    workers=1,  # it prefetches: of two workers one may take more than it has threads for
    largest=100,
    why_not_more="a thread per task",
)


def actor(settings: Settings) -> tuple[Any, Any]:
    """Broker and actor, as in its manual."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq_abort import Abortable, backends

    broker = RedisBroker(url=settings.url)
    broker.add_middleware(Abortable(backend=backends.RedisBackend.from_url(settings.url)))
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(hold_thread, actor_name="task", max_retries=0, time_limit=3_600_000)


def worker(settings: Settings) -> None:
    import dramatiq

    broker, _ = actor(settings)
    broker.emit_after("process_boot")
    dramatiq.Worker(broker, worker_threads=settings.at_a_time).start()
    threading.Event().wait()


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    from dramatiq_abort import abort

    _, task = actor(settings)
    messages = [task.send(number) for number in range(settings.tasks)]
    await enqueued()
    for message in messages:
        abort(message.message_id)
    now_ns = time.monotonic_ns()
    return [Answer(number, confirmed=False, at_ns=now_ns, says="nothing") for number in range(settings.tasks)]


if __name__ == "__main__":
    run(worker, caller)
