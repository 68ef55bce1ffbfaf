"""A steady state: so many lives at a time, one after another, and what one of them takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

WARM_UP = 200


async def per_life_ms(life: Callable[[int], Awaitable[None]], *, at_a_time: int, lives: int) -> float:
    """Milliseconds per life, wall time over count, after a warm-up."""
    await _live(life, iter(range(WARM_UP)), at_a_time)
    begin = time.perf_counter()
    await _live(life, iter(range(WARM_UP, WARM_UP + lives)), at_a_time)
    return (time.perf_counter() - begin) / lives * 1_000


async def _live(life: Callable[[int], Awaitable[None]], indexes: Iterator[int], at_a_time: int) -> None:
    async def lane() -> None:
        for index in indexes:  # one iterator for all lanes: each takes the next life when it is free
            await life(index)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(at_a_time):
            lanes.create_task(lane())
