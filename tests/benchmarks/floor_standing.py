"""The bare subscriptions: one connection with all channels, a PING every 5 s, a task that waits for each."""

import asyncio
import contextlib
import os

from redis.asyncio import Redis

from tests.benchmarks.figure_standing import measure_standing
from tests.benchmarks.floor_fanout_worker import SUBSCRIBE, channel
from tests.benchmarks.forest import execution_id
from tests.benchmarks.harness import Link

PING_S = 5.0


async def measure(url: str, executions: int, window_s: float) -> dict[str, float]:
    """Percent of one core over the window: the process that is subscribed, and Redis."""
    return await measure_standing(url, stand, executions, 1, window_s)


async def stand(link: Link, url: str, executions: int, _runs: int) -> None:
    async with Redis.from_url(url) as client, client.pubsub() as subscription:
        for first in range(0, executions, SUBSCRIBE):
            names = [channel(execution_id(index)) for index in range(first, min(first + SUBSCRIBE, executions))]
            await subscription.subscribe(*names)
            for _ in names:
                await subscription.parse_response()
        waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(executions)]
        pinging = asyncio.create_task(_ping(client))
        link.send(os.getpid())
        with contextlib.suppress(EOFError):
            await link.receive()
        for one in (*waiting, pinging):
            one.cancel()


async def _ping(client: Redis) -> None:
    while True:
        await client.ping()
        await asyncio.sleep(PING_S)
