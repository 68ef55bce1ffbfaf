"""The figure beside F4: a backlog of events, until one replica has applied and acknowledged all of it.

The replica is a whole one, in a process of its own. Beside the time per event stands the CPU time that the replica
and Redis spend on one: on a machine that others use, too, that is what can be compared from day to day.
"""

import asyncio
import time

from redis import Redis

import broker
from tests.benchmarks.control_events import events
from tests.benchmarks.harness import Link, process
from tests.benchmarks.machine import redis_cpu_s

STREAM = "cb:events"
A_PIPELINE = 1000
LOOK_S = 0.05


async def measure(url: str, number: int) -> dict[str, float]:
    """Milliseconds per event: elapsed, and of CPU."""
    async with process(ingest, url) as replica:
        await replica.receive()
        with Redis.from_url(url) as client:
            fill(client, events(number))
            server_cpu_s = redis_cpu_s(client)
            replica.send("go")
            elapsed_s, replica_cpu_s = await replica.receive()
            server_cpu_s = redis_cpu_s(client) - server_cpu_s
    taken = {"per_event": elapsed_s, "replica_cpu": replica_cpu_s, "redis_cpu": server_cpu_s}
    return {key: seconds * 1000 / number for key, seconds in taken.items()}


def fill(client: Redis, said: list[str]) -> None:
    """The backlog."""
    for at in range(0, len(said), A_PIPELINE):
        with client.pipeline(transaction=False) as batch:
            for one in said[at : at + A_PIPELINE]:
                batch.xadd(STREAM, {"event": one})
            batch.execute()


async def ingest(link: Link, url: str) -> None:
    """Says how long it took, and its CPU time, in seconds."""
    async with broker.connect(url, ingest=True):
        link.send("everything is imported")
    await link.receive()
    began_s, cpu_s = time.perf_counter(), time.process_time()
    async with broker.connect(url, ingest=True) as b:
        while True:
            state = await b.ingest_state()
            if state.consumers and state.backlog + state.pending == 0:
                break
            await asyncio.sleep(LOOK_S)
        link.send((time.perf_counter() - began_s, time.process_time() - cpu_s))
        if state.dead:
            raise RuntimeError(f"{state.dead} events were refused")
