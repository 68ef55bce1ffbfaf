"""What the start-up checks find: on a good server, on a bad one, and on one that does not let itself be seen."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

import broker
from broker.control import check
from broker.errors import BrokerUnavailable, InvalidInput
from broker.store import checks
from broker.store.checks import Finding, check_server
from broker.store.commands import Commands
from tests.support.redis_server import RedisServer, find_program
from tests.support.wait import wait_until

NAMES = ["version", "eviction", "persistence", "output_buffer", "pubsub", "script", "clock", "rights"]


async def findings(url: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in await check_server(url, 5.0)}


async def test_every_check_answers_on_every_server(redis_url: str) -> None:
    """What a server lacks is no failure, and no check ends the others."""
    found = await findings(redis_url)
    assert list(found) == NAMES
    for name in ("pubsub", "script", "clock"):
        assert found[name].ok, found[name]
    for finding in found.values():
        assert finding.ok is not None or checks.UNSEEN in finding.what, finding
        assert finding.ok is not False or finding.mend, finding


async def test_a_good_server_has_nothing_to_mend(redis_server: RedisServer) -> None:
    async with Redis.from_url(redis_server.url) as client:
        await client.config_set("client-output-buffer-limit", "pubsub 268435456 67108864 120")
    found = await findings(redis_server.url)
    assert {name: finding.ok for name, finding in found.items()} == dict.fromkeys(NAMES, True), found
    assert not any(finding.mend or finding.loses_intents for finding in found.values())


@pytest.fixture
def careless() -> Iterator[RedisServer]:
    """Evicts, writes nothing to disk, and cuts readers off early."""
    if find_program() is None:
        pytest.skip("no redis-server")
    options = ("--maxmemory-policy", "allkeys-lru", "--client-output-buffer-limit", "pubsub 64kb 64kb 1")
    with RedisServer(options=options) as server:
        yield server


async def test_t09_a_server_that_loses_intents_is_found(careless: RedisServer) -> None:
    found = await findings(careless.url)
    assert {name for name, finding in found.items() if finding.loses_intents} == {"eviction", "persistence"}
    assert {name for name, finding in found.items() if finding.ok is False} == {
        "eviction", "persistence", "output_buffer",
    }  # fmt: skip
    assert "allkeys-lru" in found["eviction"].what
    assert "noeviction" in found["eviction"].mend


async def test_a_log_without_sync_loses_intents_and_snapshots_are_said_to_be_old(redis_server: RedisServer) -> None:
    async with Redis.from_url(redis_server.url) as client:
        await client.config_set("appendfsync", "no")
        assert (await findings(redis_server.url))["persistence"].loses_intents
        await client.config_set("appendonly", "no")
        await client.config_set("save", "60 1")
        persistence = (await findings(redis_server.url))["persistence"]
        assert (persistence.ok, persistence.loses_intents) == (True, False)
        assert "snapshots only" in persistence.what


async def test_a_user_without_rights_is_told_which_are_missing(redis_server: RedisServer) -> None:
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        words = ("ACL", "SETUSER", "u", "on", ">p", "resetchannels", "&cb:*", "~cb:*", "+@all", "-zadd")
        await client.execute_command(*words)  # type: ignore[no-untyped-call]
    found = await findings(redis_server.url.replace("redis://", "redis://u:p@"))
    assert found["rights"].ok is False
    assert "ZADD" in found["rights"].what
    assert "HGET" not in found["rights"].what


async def test_a_clock_that_is_far_off_is_found(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SKEW_S", -1.0)
    assert (await findings(redis_url))["clock"].ok is False


async def test_nobody_there_and_no_url(unused_tcp_port: int) -> None:
    with pytest.raises(BrokerUnavailable):
        await check(f"redis://127.0.0.1:{unused_tcp_port}/0", 0.5)
    with pytest.raises(InvalidInput):
        await check("http://localhost")


async def test_connect_warns_once_of_what_loses_intents(
    careless: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def warned() -> list[str]:
        return [record.message for record in caplog.records if "redis.unsafe" in record.message]

    with caplog.at_level(logging.WARNING, "broker.control"):
        async with broker.connect(careless.url, sweep=False):
            await wait_until(lambda: len(warned()) == 2, "both warnings")
    assert len(warned()) == 2
    assert any("noeviction" in line for line in warned())
    assert any("appendonly" in line for line in warned())


async def test_connect_says_nothing_of_a_server_that_keeps_intents(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    original = checks.check_durability

    async def noted(commands: Commands) -> list[Finding]:
        found = await original(commands)
        done.append(len(found))
        return found

    monkeypatch.setattr("broker.replica.check_durability", noted)
    async with broker.connect(redis_server.url, sweep=False):
        await wait_until(lambda: done == [2], "the checks to be made")
    assert "redis.unsafe" not in caplog.text
