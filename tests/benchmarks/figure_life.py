"""The figure beside F3: start and finish of one execution, steady state, one worker process."""

import broker
from tests.benchmarks.forest import execution_id
from tests.benchmarks.harness import Link, process
from tests.benchmarks.steady import per_life_ms

RUN = "run-life"


async def measure(url: str, at_a_time: int, lives: int) -> dict[str, float]:
    """Milliseconds per life, in one process of its own."""
    async with process(live, url, at_a_time, lives) as worker:
        return {"per_life": await worker.receive()}


async def live(link: Link, url: str, at_a_time: int, lives: int) -> None:
    async with broker.Worker(url) as worker:

        async def life(index: int) -> None:
            async with worker.execution(RUN, execution_id(index)):
                pass

        link.send(await per_life_ms(life, at_a_time=at_a_time, lives=lives))
