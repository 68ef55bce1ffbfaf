"""F4: one redis-py client that XADDs events one by one, waiting for each answer, in a process of its own."""

import time

from redis import Redis

from tests.benchmarks.control_events import events
from tests.benchmarks.harness import Link, process
from tests.benchmarks.machine import redis_cpu_s


async def measure(url: str, number: int) -> dict[str, float]:
    """Milliseconds per event: elapsed, and of CPU."""
    async with process(publish, url, number) as client:
        elapsed_s, client_cpu_s, server_cpu_s = await client.receive()
    taken = {"per_event": elapsed_s, "client_cpu": client_cpu_s, "redis_cpu": server_cpu_s}
    return {key: seconds * 1000 / number for key, seconds in taken.items()}


async def publish(link: Link, url: str, number: int) -> None:
    said = events(number)
    with Redis.from_url(url) as client:
        server_cpu_s = redis_cpu_s(client)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for one in said:
            client.xadd("floor:events", {"event": one})
        elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        link.send((elapsed_s, cpu_s, redis_cpu_s(client) - server_cpu_s))
