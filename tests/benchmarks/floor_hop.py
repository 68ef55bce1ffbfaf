"""F1, the hop: one PUBLISH until another process has the message. Bare redis-py, one message at a time."""

import asyncio
import time

from redis.asyncio import Redis

from tests.benchmarks.harness import Link, process
from tests.benchmarks.percentile import p50_p99_ms

CHANNEL = "floor:hop"
WARM_UP = 50
PAUSE_S = 0.002  # between two messages: idle, but the machine not asleep (0: 0.22 ms, 2 ms: 0.38, 5 ms: 0.6)


async def measure(url: str, hops: int) -> dict[str, float]:
    """p50 and p99 in milliseconds. CLOCK_MONOTONIC is one clock for all processes of a Linux machine."""
    async with process(listen, url, WARM_UP + hops) as listener, Redis.from_url(url) as client:
        await listener.receive()
        for _ in range(WARM_UP + hops):
            await client.publish(CHANNEL, time.monotonic_ns())
            await asyncio.sleep(PAUSE_S)
        durations_ns: list[int] = await listener.receive()
    return p50_p99_ms(durations_ns[WARM_UP:])


async def listen(link: Link, url: str, messages: int) -> None:
    durations_ns: list[int] = []
    async with Redis.from_url(url) as client, client.pubsub() as subscription:
        await subscription.subscribe(CHANNEL)
        async for message in subscription.listen():
            now_ns = time.monotonic_ns()
            if message["type"] == "subscribe":
                link.send("confirmed")
            else:
                durations_ns.append(now_ns - int(message["data"]))
            if len(durations_ns) == messages:
                break
    link.send(durations_ns)
