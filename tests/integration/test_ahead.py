"""A narrow cancel asks for its gate, the read behind it and the telling in one round trip; each step stays its own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis

import broker
from broker import Execution
from broker.errors import StoreRefused
from broker.store.commands import Commands, _Waiting
from broker.store.operations import CLOCK_KNOWN_S
from tests.support.driving import RUN, work_list
from tests.support.observer import Observer, assert_each_once
from tests.support.parts import Parts
from tests.support.points import holding


def words(waiting: _Waiting) -> str:
    return waiting.script.name if waiting.script else str(waiting.command[0])


async def test_a_narrow_cancel_is_told_in_the_second_round_trip(
    b: broker.Broker, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await b.register(RUN, [Execution("x", status="running"), Execution("y", status="running")])
    await b.cancel_execution("y")  # the scripts are known from here on
    seen: list[list[str]] = []
    original = Commands._round_trip

    async def counted(self: Commands, connection: Any, batch: list[_Waiting]) -> None:
        seen.append([words(waiting) for waiting in batch])
        await original(self, connection, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Commands, "_round_trip", counted)
        report = await b.cancel_execution("x")
    assert seen[:2] == [["GET"], ["ZADD", "open_cancel", "HGET", "publish_cancels"]]
    assert sum(batch.count("publish_cancels") for batch in seen) == 1
    assert [(node.execution_id, node.status, node.previous_status) for node in report.nodes] == [
        ("x", "cancelled", "running")
    ]
    assert_each_once(await observer.first_attempts(), ["x", "y"])


async def test_what_was_asked_for_too_early_is_done_again(b: broker.Broker, redis_url: str, observer: Observer) -> None:
    """Redis has forgotten the script that opens, and knows the one that tells, which comes first and finds nothing."""
    await b.register(RUN, [Execution("x", status="running"), Execution("y", status="running")])
    await b.cancel_execution("y")
    scripts = b._replica.operations._backend.scripts
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
        client.script_load(scripts.publish_cancels.source)
    report = await b.cancel_execution("x")
    assert [(node.execution_id, node.status) for node in report.nodes] == [("x", "cancelled")]
    assert_each_once(await observer.first_attempts(), ["x", "y"])


async def test_what_was_opened_and_could_not_be_listed_is_listed_again(
    b: broker.Broker, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was full for one command: the gate is closed, so somebody must be able to find it."""
    await b.register(RUN, [Execution("x", status="running"), Execution("y", status="running")])
    await b.cancel_execution("y")

    async def refused(*_: object) -> None:
        raise StoreRefused("Redis refused ZADD: OOM")

    monkeypatch.setattr(b._replica.operations, "enlist_since", refused)
    with holding("cancel.gated") as held:  # before the end of the drive, which says when it is due next
        task = asyncio.create_task(b.cancel_execution("x"))
        await held.arrived()
        listed = await work_list(parts)
    report = await task
    assert [(node.execution_id, node.status) for node in report.nodes] == [("x", "cancelled")]
    assert report.cancel_id in listed


async def test_a_clock_that_was_mistaken_refuses_one_cancel_and_is_asked_again(b: broker.Broker, parts: Parts) -> None:
    """Redis's clock was set forward by a minute, or another server has another one."""
    await b.register(RUN, [Execution("x", status="running")])
    operations = b._replica.operations
    now_us = await operations.now_us()
    operations._heard_time(now_us - 60_000_000)
    with pytest.raises(broker.BrokerUnavailable, match="30 s"):
        await b.cancel_execution("x")
    assert await parts.reads.operations(RUN) == []
    assert await work_list(parts) == {}
    heard_us = operations.passed_us()  # the sweep may have asked since
    assert heard_us is None or heard_us - now_us > -30_000_000
    assert (await b.cancel_execution("x")).totals.cancelled == 1


async def test_a_time_that_was_heard_long_ago_is_not_gone_by(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = parts.operations
    assert operations.passed_us() is None
    before_us = await operations.now_us()
    passed_us = operations.passed_us()
    assert passed_us is not None
    assert before_us <= passed_us <= await operations.now_us()
    later = time.monotonic() + CLOCK_KNOWN_S
    monkeypatch.setattr("broker.store.operations.time.monotonic", lambda: later)
    assert operations.passed_us() is None
