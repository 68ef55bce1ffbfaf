"""100,000 events in random order, 5 % of them twice, into two replicas, of which one is killed -9 in the middle.

`python -m tests.chaos.ingest [EVENTS]`: prints what one client can XADD one by one, how fast one replica and two
ingest, and fails if an event is lost, a status is wrong, or poison is not found among the dead.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.support.ingesting import open_replica, shuffled_with_duplicates, status
from tests.support.redis_server import RedisServer
from tests.support.tree import ROOT
from tests.support.wait import wait_until

EXECUTIONS_A_RUN = 250
EXPECTED = {0: "succeeded", 1: "timed_out", 2: "in_progress", 3: "waiting"}


def lives(events: int) -> Iterator[str]:
    """Four events an execution: created, started, updated, and an end or another update."""
    for n in range(events // 4):
        one, run = f"e{n}", f"run-{n // EXECUTIONS_A_RUN}"
        parent = f"e{n - 1}" if n % EXECUTIONS_A_RUN else None
        held = {"worker_id": f"w{n % 50}", "start": 1} if n % 8 == 0 else {}
        yield status("created", one, 1, run=run, status="queued", parent_execution_id=parent, agent_node_id="gpu-7")
        yield status("started", one, 2, run=run, **held)
        yield status("updated", one, 3, run=run, status="waiting")
        if n % 4 == 0:
            yield status("completed", one, 4, run=run, **held)
        elif n % 4 == 1:
            yield status("failed", one, 4, run=run, status="timed_out")
        else:
            yield status("updated", one, 4, run=run, status=EXPECTED[n % 4])


def xadd_one_by_one(url: str, events: list[str]) -> float:
    """Events a second of one client that waits for each answer."""
    with redis.Redis.from_url(url) as client:
        began = time.monotonic()
        for one in events:
            client.xadd("floor", {"event": one})
        rate = len(events) / (time.monotonic() - began)
        client.delete("floor")
        return rate


def fill(url: str, events: list[str]) -> None:
    with redis.Redis.from_url(url) as client:
        for at in range(0, len(events), 1000):
            with client.pipeline(transaction=False) as batch:
                for one in events[at : at + 1000]:
                    batch.xadd("cb:events", {"event": one})
                batch.execute()


@contextmanager
def replica(url: str, name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.chaos.replica", url, name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


async def check(url: str, executions: int, poison: int) -> None:
    async with open_replica(url, "looker", started=False) as looker:
        wrong, seen = [], 0
        for run in range(-(-executions // EXECUTIONS_A_RUN)):
            found = await looker.statuses(f"run-{run}")
            seen += len(found)
            wrong += [(one, word) for one, word in found.items() if word != EXPECTED[int(one[1:]) % 4]]
        state = await looker.stream.state()
    assert (seen, wrong[:5]) == (executions, []), (seen, len(wrong), wrong[:5])
    assert (state.backlog, state.pending) == (0, 0), state
    assert state.dead >= poison, state
    print(f"{executions} executions, none lost, none wrong; {state.dead} dead of {poison} poisoned; {state}")


async def until(url: str, left: int) -> None:
    async with open_replica(url, "watcher", started=False) as watcher:

        async def is_so() -> bool:
            state = await watcher.stream.state()
            return state.backlog + state.pending <= left

        await wait_until(is_so, f"at most {left} events to be left", timeout=600.0)


async def main(number: int) -> None:
    chosen = random.Random(7)
    events = shuffled_with_duplicates(lives(number), chosen)
    poison = [b"{", b"\xff", b'{"v":1,"type":"execution.created","execution_id":"a|b"}'] * 20
    with RedisServer() as server:
        floor = xadd_one_by_one(server.url, events[: min(20_000, number)])
        print(f"one client, XADD one by one: {floor:,.0f} events/s")
        fill(server.url, events)
        with replica(server.url, "alone"):
            began = time.monotonic()
            await until(server.url, 0)
            alone = len(events) / (time.monotonic() - began)
        await check(server.url, number // 4, 0)
        print(f"one replica: {len(events)} events, {alone:,.0f} events/s, {alone / floor:.1f} x the client")
    with RedisServer() as server:
        fill(server.url, events)
        with redis.Redis.from_url(server.url) as client:
            for one in poison:
                client.xadd("cb:events", {"event": one})
        with replica(server.url, "dies") as dies, replica(server.url, "lives"):
            began = time.monotonic()
            await until(server.url, len(events) // 2)
            dies.kill()
            print(f"killed -9 after {time.monotonic() - began:.1f} s")
            await until(server.url, 0)
            both = len(events) / (time.monotonic() - began)
        await check(server.url, number // 4, len(poison))
        print(f"two replicas, one killed: {both:,.0f} events/s, with the wait for what it had in hand")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
