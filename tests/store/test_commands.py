"""The command connection: what waits together goes in one round trip, and nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis

from broker.errors import BrokerUnavailable, InvalidInput, StoreRefused
from broker.store.checks import check_server
from broker.store.commands import BATCH, Commands, _Waiting
from broker.store.subscriptions import Subscriptions
from tests.support.redis_server import RedisServer
from tests.support.wait import next_turn

PATIENCE_S = 20.0
NAME = "commands-under-test"


@asynccontextmanager
async def connected(url: str, timeout_s: float = 5.0) -> AsyncIterator[Commands]:
    commands = Commands(url, timeout_s=timeout_s, client_name=NAME)
    try:
        yield commands
    finally:
        await commands.close()


@contextmanager
def round_trips(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The first word of each command, by round trip."""
    seen: list[list[str]] = []
    original = commands._round_trip

    async def counted(connection: Any, batch: list[_Waiting]) -> None:
        seen.append([str(waiting.command[0]) for waiting in batch])
        await original(connection, batch)

    with monkeypatch.context() as patched:
        patched.setattr(commands, "_round_trip", counted)
        yield seen


def kill(url: str) -> int:
    """Ends the connections of the commands under test, as an operator would."""
    with redis.Redis.from_url(url) as client:
        ids = [one["id"] for one in client.client_list() if one["name"] == NAME]
        return sum(int(client.client_kill_filter(_id=one) or 0) for one in ids)


async def test_what_waits_together_goes_in_one_round_trip_in_its_order(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(redis_url) as commands:
        await commands.command("PING")
        with round_trips(commands, monkeypatch) as seen:
            waiting = [commands.command("RPUSH", "list", n) for n in range(100)]
            assert await asyncio.gather(*waiting) == list(range(1, 101))
        assert [len(batch) for batch in seen] == [100]
        assert await commands.command("LRANGE", "list", 0, -1) == [str(n) for n in range(100)]
        await commands.command("DEL", "list")


async def test_a_round_trip_is_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(redis_url) as commands:
        with round_trips(commands, monkeypatch) as seen:
            await asyncio.gather(*(commands.command("PING") for _ in range(BATCH + 1)))
        assert [len(batch) for batch in seen] == [BATCH, 1]


async def test_a_refused_command_fails_alone(redis_url: str) -> None:
    async with connected(redis_url) as commands:
        before, refused, after = commands.command("PING"), commands.command("NOSUCH", "x"), commands.command("PING")
        assert (await before, await after) == ("PONG", "PONG")
        with pytest.raises(StoreRefused, match=r"^Redis refused NOSUCH: .*unknown command"):
            await refused


async def test_a_caller_that_has_gone_does_not_shift_the_answers_of_others(redis_url: str) -> None:
    async with connected(redis_url) as commands:
        first, gone, last = (commands.command("ECHO", word) for word in ("first", "gone", "last"))
        gone.cancel()
        assert (await first, await last) == ("first", "last")
        assert await commands.command("ECHO", "again") == "again"


async def test_a_connection_killed_in_mid_flight_is_replaced_and_all_is_answered(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between send and answer: what was not answered is sent again, on a new connection."""
    async with connected(redis_url) as commands:
        await commands.command("PING")
        original, kills = commands._round_trip, 0

        async def killed_once(connection: Any, batch: list[_Waiting]) -> None:
            nonlocal kills
            if kills == 0:
                kills = await asyncio.to_thread(kill, redis_url)
            await original(connection, batch)

        monkeypatch.setattr(commands, "_round_trip", killed_once)
        words = [str(n) for n in range(50)]
        assert await asyncio.gather(*(commands.command("ECHO", word) for word in words)) == words
        assert kills == 1


async def test_a_broken_order_is_kept(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent again stands before what came in the meantime."""
    async with connected(redis_url) as commands:
        await commands.command("PING")
        original, failing = commands._round_trip, True

        async def torn(connection: Any, batch: list[_Waiting]) -> None:
            nonlocal failing
            if failing:
                failing = False
                late.append(commands.command("RPUSH", "list", "late"))
                raise RuntimeError("torn")  # not a RedisError (trap T43)
            await original(connection, batch)

        late: list[asyncio.Future[Any]] = []
        monkeypatch.setattr(commands, "_round_trip", torn)
        await asyncio.gather(*(commands.command("RPUSH", "list", n) for n in range(3)))
        await asyncio.gather(*late)
        assert await commands.command("LRANGE", "list", 0, -1) == ["0", "1", "2", "late"]
        await commands.command("DEL", "list")


async def test_after_a_restart_it_goes_on_and_knows_its_scripts_again(redis_server: RedisServer) -> None:
    from broker.store.backend import Backend
    from broker.store.keys import Lifetimes

    backend = Backend.connect(redis_server.url, namespace="cb", lifetimes=Lifetimes(), timeout_s=PATIENCE_S)
    try:
        assert (await backend.on_run(backend.scripts.touch, "r"))[0] == "touched"
        redis_server.kill()
        waiting = backend.on_run(backend.scripts.touch, "r")
        await asyncio.to_thread(redis_server.restart)
        assert (await waiting)[0] == "touched"
    finally:
        await backend.close()


async def test_t47_a_server_that_stands_still_is_unavailable_in_time(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for what is still in the queue: nobody waits for the turns of others."""
    async with connected(redis_server.url, timeout_s=0.3) as commands:
        assert await commands.command("PING") == "PONG"
        redis_server.pause()
        waiting = [commands.command("PING") for _ in range(BATCH * 3)]
        patient = commands.command("PING", patience_s=float("inf"))
        with round_trips(commands, monkeypatch) as seen:
            async with asyncio.timeout(PATIENCE_S):
                answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in answers} == {BrokerUnavailable}
        assert len(seen) == 1
        assert not patient.done(), "an ack has for ever"
        redis_server.resume()
        async with asyncio.timeout(PATIENCE_S):
            assert await patient == "PONG"


async def test_nobody_there_is_unavailable(redis_server: RedisServer) -> None:
    redis_server.kill()
    async with connected(redis_server.url, timeout_s=0.1) as commands:
        with pytest.raises(BrokerUnavailable, match="Redis did not answer: "):
            await commands.command("PING")


async def test_closing_fails_what_waits(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as commands:
        await commands.command("PING")
        redis_server.pause()
        under_way = commands.command("PING", patience_s=float("inf"))
        await asyncio.wait({asyncio.ensure_future(_flushed(commands))}, timeout=PATIENCE_S)
        queued = commands.command("PING", patience_s=float("inf"))
        await commands.close()
        for waiting in (under_way, queued):
            assert isinstance(waiting.exception(), BrokerUnavailable)
        with pytest.raises(BrokerUnavailable, match="closed"):
            commands.command("PING")
        redis_server.resume()


async def _flushed(commands: Commands) -> None:
    from tests.support.wait import wait_until

    await wait_until(lambda: not commands._queue, "the queue to be taken up")


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "", "redis://localhost:port/0"])
def test_a_url_that_cannot_be_one_is_refused_with_its_value(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Commands(url)
    assert repr(url) in str(refused.value)


async def _taken(found: object) -> None:
    if isinstance(found, Awaitable):
        await found


@pytest.mark.parametrize("url", ["redis://:hush/5@host:6379/0", "http://user:hush@host", "redis://:hush@host:port"])
@pytest.mark.parametrize("takes", [Commands, Subscriptions, check_server], ids=lambda takes: str(takes.__name__))
async def test_a_url_that_cannot_be_one_keeps_its_password(takes: Callable[[str], Any], url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await _taken(takes(url))
    assert "hush" not in str(refused.value)
    assert "allowed is redis://" in str(refused.value)


async def test_closing_while_a_command_is_being_sent_comes_to_an_end(redis_url: str) -> None:
    """On 3.11 `asyncio.wait_for`, which redis-py can send with, loses a cancel that comes in the tick of its result."""
    for turns in range(6):
        commands = Commands(redis_url)
        await commands.command("PING")
        under_way = commands.command("PUBLISH", "channel", b"x")
        for _ in range(turns):
            await next_turn()
        async with asyncio.timeout(5):
            await commands.close()
        await asyncio.gather(under_way, return_exceptions=True)
