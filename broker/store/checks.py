"""What is to be known of a Redis before intents are trusted to it. A check that cannot be made says so.

A server may lack the command (the embedded default has no INFO, no CONFIG) or refuse it (a managed service); that
is no failure: `ok` is None then, and `what` says that it cannot be seen here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from broker.errors import BrokerUnavailable, StoreRefused
from broker.store.address import bad_address
from broker.store.commands import Commands
from broker.store.keys import NAMESPACE, Keys

OLDEST = (7, 0)
SKEW_S = 2.0  # between Redis's clock and ours: times that people read are wrong by it; no decision is (trap T32)
PUBSUB_SOFT_BYTES = 64 * 1024 * 1024  # as deploy/redis/redis.conf: a reader 30,000 messages behind is not cut off
UNSEEN = "cannot be seen here"


class Finding(NamedTuple):
    """One check: `ok` is None where the server does not let us see. `mend` says what to do, empty where all is well.

    `loses_intents`: as it stands, a cancel that was accepted can be lost.
    """

    name: str
    ok: bool | None
    what: str
    mend: str = ""
    loses_intents: bool = False


Check = Callable[["_Server"], Awaitable[Finding]]
Ask = Callable[..., Awaitable[Any]]
"""Sends one command, and has the raw answer."""


class _Server(NamedTuple):
    client: Redis
    keys: Keys
    timeout_s: float

    async def ask(self, *command: str) -> Any:
        """The raw answer."""
        return await self.client.execute_command(*command)  # type: ignore[no-untyped-call]


async def check_durability(commands: Commands) -> list[Finding]:
    """Only the settings that lose intents, over a connection that there is. Raises BrokerUnavailable."""
    return [await _checked(name, check(commands.command)) for name, check in DURABILITY.items()]


async def _settings(ask: Ask, pattern: str) -> dict[str, str]:
    flat = await ask("CONFIG", "GET", pattern)
    return dict(zip(flat[0::2], flat[1::2], strict=True))


async def check_server(url: str, timeout_s: float = 5.0, namespace: str = NAMESPACE) -> list[Finding]:
    """Everything there is to find, in a fixed order. Raises BrokerUnavailable where Redis does not answer."""
    try:
        client = Redis.from_url(
            url, decode_responses=True, protocol=2, socket_connect_timeout=timeout_s, socket_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0), client_name="broker-check",
        )  # fmt: skip
    except ValueError as error:
        raise bad_address(url, error) from error
    async with client:
        server = _Server(client, Keys(namespace), timeout_s)
        try:
            await client.ping()
            return [await _checked(name, check(server)) for name, check in CHECKS.items()]
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis did not answer: {error}") from error


async def _checked(name: str, checking: Awaitable[Finding]) -> Finding:
    try:
        return await checking
    except (ResponseError, StoreRefused) as error:
        return Finding(name, None, f"{UNSEEN}: {error}")


async def _version(server: _Server) -> Finding:
    info = await server.client.info("server")
    version = str(info["redis_version"])
    ok = tuple(int(part) for part in version.split(".")[:2]) >= OLDEST
    oldest = ".".join(map(str, OLDEST))
    return Finding("version", ok, f"version {version}", "" if ok else f"use Redis {oldest} or newer")


async def _eviction(ask: Ask) -> Finding:
    policy = (await _settings(ask, "maxmemory-policy"))["maxmemory-policy"]
    ok = policy == "noeviction"
    mend = "" if ok else "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    return Finding("eviction", ok, f"maxmemory-policy {policy}", mend, not ok)


async def _persistence(ask: Ask) -> Finding:
    found = await _settings(ask, "*")
    appendonly, save = found["appendonly"] == "yes", found["save"].strip()
    if appendonly:
        fsync = found["appendfsync"]
        ok = fsync != "no"
        mend = "" if ok else "CONFIG SET appendfsync everysec (or always)"
        return Finding("persistence", ok, f"append-only file, appendfsync {fsync}", mend, not ok)
    mend = "CONFIG SET appendonly yes, and the same in redis.conf: see deploy/redis/redis.conf"
    if save:
        return Finding("persistence", True, f"snapshots only ({save}): what came after the last one is lost", mend)
    return Finding("persistence", False, "nothing is written to disk: a restart loses every cancel", mend, True)


async def _output_buffer(server: _Server) -> Finding:
    limits = (await _settings(server.ask, "client-output-buffer-limit"))["client-output-buffer-limit"].split()
    at = limits.index("pubsub")
    hard, soft, seconds = (int(one) for one in limits[at + 1 : at + 4])
    ok = (soft == 0 or soft >= PUBSUB_SOFT_BYTES) and (hard == 0 or hard >= PUBSUB_SOFT_BYTES)
    what = f"pubsub {hard} {soft} {seconds} (hard and soft bytes, seconds)"
    mend = "" if ok else "CONFIG SET client-output-buffer-limit 'pubsub 256mb 64mb 120': slow readers are cut off"
    return Finding("output_buffer", ok, what, mend)


async def _pubsub(server: _Server) -> Finding:
    channel, word = server.keys.control_channel(f"check-{secrets.token_hex(6)}"), secrets.token_hex(8)
    async with server.client.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        began = time.monotonic()
        await server.client.publish(channel, word)
        while time.monotonic() - began < server.timeout_s:
            message = await pubsub.get_message(timeout=server.timeout_s)
            if message is not None and message["type"] == "message" and message["data"] == word:
                return Finding("pubsub", True, f"a message came back in {_ms(began)} ms")
    return Finding(
        "pubsub", False, f"a message did not come back in {server.timeout_s:g} s",
        "look for a proxy that does not pass SUBSCRIBE on; workers fall back to polling with each heartbeat",
    )  # fmt: skip


async def _script(server: _Server) -> Finding:
    began = time.monotonic()
    answer = await server.ask("EVAL", "return {ARGV[1], redis.call('TIME')[1]}", "0", "word")
    ok = answer[0] == "word"
    return Finding("script", ok, f"a script answered in {_ms(began)} ms", "" if ok else "allow EVAL and EVALSHA")


async def _clock(server: _Server) -> Finding:
    """Redis's clock twice against ours: far from it, or not going on as ours does."""
    skews, began = [], time.monotonic()
    first_s = await _redis_time_s(server)
    skews.append(first_s - time.time())
    await asyncio.sleep(0.01)
    second_s = await _redis_time_s(server)
    passed_s = time.monotonic() - began
    if second_s < first_s or second_s - first_s > passed_s + SKEW_S:
        return Finding("clock", False, f"Redis's clock stepped by {second_s - first_s:.3f} s", "slew it with NTP")
    ok = abs(skews[0]) <= SKEW_S
    what = f"Redis's clock is {skews[0]:+.3f} s from the one here"
    return Finding("clock", ok, what, "" if ok else "let NTP keep both clocks; lags are right all the same")


async def _rights(server: _Server) -> Finding:
    """Would the present user be allowed to do what the broker does? ACL DRYRUN, 7.0 and newer."""
    user = str(await server.ask("ACL", "WHOAMI"))
    keys, channel = server.keys, server.keys.channels("check") + "cancel:check"
    wanted = (
        ("EVALSHA", "0" * 40, "1", keys.run("check").run), ("HGET", keys.run("check").cancels, "x"),
        ("SET", keys.execution("check"), "x"), ("ZADD", keys.work_list, "1", "x"), ("TIME",),
        ("PUBLISH", channel, "x"), ("SUBSCRIBE", channel), ("SUBSCRIBE", keys.control_channel("check")),
        ("SCRIPT", "LOAD", "x"), ("INFO", "server"),
    )  # fmt: skip
    refused = []
    for command in wanted:
        answer = await server.ask("ACL", "DRYRUN", user, *command)
        if str(answer) != "OK":
            refused.append(f"{command[0]}: {answer}")
    if not refused:
        return Finding("rights", True, f"user {user} may do what the broker does")
    mend = f"ACL SETUSER {user} ~{keys.namespace}:* &{keys.namespace}:* +@all -@dangerous +info"
    return Finding("rights", False, "; ".join(refused), mend)


async def _redis_time_s(server: _Server) -> float:
    seconds, microseconds = await server.client.time()
    return int(seconds) + int(microseconds) / 1e6


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.1f}"


DURABILITY: dict[str, Callable[[Ask], Awaitable[Finding]]] = {"eviction": _eviction, "persistence": _persistence}
CHECKS: dict[str, Check] = {
    "version": _version,
    "eviction": lambda server: _eviction(server.ask),
    "persistence": lambda server: _persistence(server.ask),
    "output_buffer": _output_buffer,
    "pubsub": _pubsub,
    "script": _script,
    "clock": _clock,
    "rights": _rights,
}
