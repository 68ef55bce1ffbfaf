"""Ray: async actors, `ray.cancel()`, then `ray.get()`. It has no Redis, so there is no connection to drop."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.contender import Contender
from tests.benchmarks.peers.program import JOURNAL, Answer, Enqueued, Settings, ask, hold, run

CONTENDER = Contender(
    name="Ray async actor",
    requirements=("ray==2.60.0",),
    shown=("ray",),
    knows="ray.get() raises TaskCancelledError",
    workers=0,
    uses_redis=False,
)
ACTORS = 2


class Actor:
    async def task(self, number: int) -> None:
        await hold(number)


async def caller(settings: Settings, enqueued: Enqueued) -> Sequence[Answer]:
    import ray

    async def cancel(reference: Any) -> tuple[bool, str]:
        ray.cancel(reference)
        try:
            await reference
        except ray.exceptions.TaskCancelledError:
            return True, "TaskCancelledError"
        except ray.exceptions.RayActorError as error:
            return True, type(error).__name__
        return False, "a result"

    variables = {JOURNAL: os.environ[JOURNAL], "PYTHONPATH": str(Path.cwd())}
    ray.init(num_cpus=ACTORS, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    try:
        remote: Any = ray.remote(Actor)
        actors = [remote.options(max_concurrency=settings.tasks, num_cpus=1).remote() for _ in range(ACTORS)]
        references = [actors[number % ACTORS].task.remote(number) for number in range(settings.tasks)]
        await enqueued()
        return await asyncio.gather(*(ask(settings, number, cancel(one)) for number, one in enumerate(references)))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    run(None, caller)
