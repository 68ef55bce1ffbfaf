"""A cancel that waits for replicas says how many have it, and answers without them, too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

import broker
from broker.store import replication
from tests.support.driving import RUN, register_tree
from tests.support.parts import Parts
from tests.support.points import PATIENCE_S
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until


@pytest.fixture
def replica(redis_server: RedisServer) -> Iterator[RedisServer]:
    options = ("--replicaof", "127.0.0.1", str(redis_server.port), "--repl-diskless-sync-delay", "0")
    with RedisServer(options=options) as server:
        yield server


@pytest.fixture
async def in_step(redis_server: RedisServer, replica: RedisServer) -> RedisServer:
    async with Redis.from_url(replica.url) as client:

        async def linked() -> bool:
            return bool((await client.info("replication"))["master_link_status"] == "up")

        await wait_until(linked, "the replica to be in step", timeout=60.0)
    return replica


async def test_t08_the_answer_says_that_a_replica_has_the_cancel(
    redis_server: RedisServer, in_step: RedisServer
) -> None:
    async with broker.connect(redis_server.url, sweep=False, min_replicas=1) as b:
        await register_tree(b, "running")
        report = await b.cancel_run(RUN)
        assert report.durability == (1, 1)
        assert (await b.report(RUN)).durability is None, "a report that only reads asks nobody"
        again = await b.cancel_run(RUN)
        assert (again.cancel_id, again.durability) == (report.cancel_id, (1, 1))
    redis_server.kill()
    async with Redis.from_url(in_step.url, decode_responses=True) as client:
        intents = await client.hlen(f"cb:{{{RUN}}}:intents")
        assert intents == report.totals.executions


async def test_t08_a_replica_that_stands_still_has_nothing(
    redis_server: RedisServer, in_step: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "LONGEST_MS", 50)
    async with broker.connect(redis_server.url, sweep=False, min_replicas=1) as b:
        await register_tree(b)
        in_step.pause()
        report = await b.cancel_run(RUN)
        assert (report.durability, report.state) == ((1, 0), "settled")


async def test_without_replicas_a_cancel_is_answered_all_the_same(
    redis_url: str, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "LONGEST_MS", 20)
    async with broker.connect(redis_url, sweep=False, min_replicas=2) as b:
        await register_tree(b)
        report = await b.cancel_run(RUN)
    assert (report.durability, report.state) == ((2, 0), "settled")


async def test_nobody_else_waits_behind_the_wait(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAIT holds up a connection of its own: other commands of this process are answered while it stands."""
    monkeypatch.setattr(replication, "LONGEST_MS", int(PATIENCE_S * 1000))
    async with (
        broker.connect(redis_server.url, sweep=False, min_replicas=1, timeout=2 * PATIENCE_S) as b,
        Redis.from_url(redis_server.url) as client,
    ):
        await register_tree(b)
        cancelling = asyncio.create_task(b.cancel_run(RUN))

        async def blocked() -> int:
            return int((await client.info("clients"))["blocked_clients"])

        await wait_until(blocked, "the cancel to wait for its replica")
        assert (await b.report(RUN)).settled
        assert not cancelling.done()
        cancelling.cancel()
        await asyncio.gather(cancelling, return_exceptions=True)
        assert await client.client_unblock(await _waiting_client(client))


async def _waiting_client(client: Redis) -> int:
    return next(int(one["id"]) for one in await client.client_list() if one["name"] == "broker-wait")


@pytest.mark.parametrize("value", [-1, 1.5, True, "2", 1001])
def test_a_number_of_replicas_that_cannot_be_is_refused(value: object) -> None:
    with pytest.raises(broker.InvalidInput, match="min_replicas"):
        broker.connect("redis://localhost", min_replicas=value)  # type: ignore[arg-type]
