"""A narrow cancel asks for its gate, the read behind it and the telling in one round trip; each step stays its own."""

from __future__ import annotations

from typing import Any

import pytest
import redis

import broker
from broker import Execution
from broker.store.commands import Commands, _Waiting
from tests.support.driving import RUN
from tests.support.observer import Observer, assert_each_once


def words(waiting: _Waiting) -> str:
    return waiting.script.name if waiting.script else str(waiting.command[0])


async def test_a_narrow_cancel_is_told_in_the_third_round_trip(
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
    assert seen[:3] == [["GET"], ["list_operation"], ["open_cancel", "HGET", "publish_cancels"]]
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
