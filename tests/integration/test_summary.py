"""The canonical line of a cancel: once for each settlement, however many replicas look at it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

import broker
from broker.cancel.sweep import FEW
from broker.observe import signals
from broker.observe.events import CANCEL_COMPLETE, CANCEL_STARTED
from tests.support.parts import Parts, open_parts
from tests.support.points import Died, dying

RUN = "run-1"


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    found = [json.loads(record.getMessage()) for record in caplog.records if record.name == "broker.cancel"]
    return [line for line in found if line["event"] == event]


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "broker.cancel")


async def cancelled(b: broker.Broker, parts: Parts) -> str:
    for execution_id in ("x", "y"):
        await parts.start(RUN, execution_id)
    report = await b.cancel_run(RUN, reason="budget", requested_by="ops")
    for execution_id in ("x", "y"):
        await parts.finish(RUN, execution_id)
    return report.cancel_id


async def test_one_line_says_who_why_how_each_ended_and_how_long_it_took(
    b: broker.Broker, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    cancel_id = await cancelled(b, parts)
    await parts.sweep_now(RUN, cancel_id)
    (started,), (complete,) = lines(caplog, CANCEL_STARTED), lines(caplog, CANCEL_COMPLETE)
    report = await b.report(RUN)
    for line in (started, complete):
        assert (line["run_id"], line["cancel_id"], line["scope"]) == (RUN, cancel_id, "run")
        assert (line["requested_by"], line["reason"]) == ("ops", "budget")
    assert complete["dispositions"] == {"stopped": 2}
    assert complete["stopped_p99_ms"] == report.ack_lag.stopped.p99_ms > 0
    assert report.settled_at is not None
    took_ms = (report.settled_at - report.requested_at).total_seconds() * 1000
    assert complete["duration_ms"] == pytest.approx(took_ms, abs=0.001)


async def test_it_is_written_once_however_many_replicas_look(
    b: broker.Broker, parts: Parts, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    cancel_id = await cancelled(b, parts)
    async with open_parts(redis_url, "replica-3") as other:
        for _ in range(2):
            await asyncio.gather(parts.sweep_now(RUN, cancel_id), other.sweep_now(RUN, cancel_id))
    assert len(lines(caplog, CANCEL_COMPLETE)) == 1


async def test_a_replica_that_dies_with_the_line_in_hand_leaves_none_and_never_two(
    b: broker.Broker, parts: Parts, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The audit of the run has the settlement all the same."""
    cancel_id = await cancelled(b, parts)
    with dying("cancel.summing_up"), pytest.raises(Died):
        await parts.sweep_now(RUN, cancel_id)
    await parts.expire_lease(RUN, cancel_id)
    async with open_parts(redis_url, "replica-3") as other:
        await other.sweep_now(RUN, cancel_id)
    assert lines(caplog, CANCEL_COMPLETE) == []
    assert "settled" in [entry.event for entry in await b.audit(RUN)]


async def test_a_cancel_that_was_open_again_has_a_line_for_each_settlement(
    b: broker.Broker, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    cancel_id = await cancelled(b, parts)
    await parts.sweep_now(RUN, cancel_id)
    assert await parts.claims.report_status(RUN, "late", "running") == "cancelled"
    await parts.sweep_now(RUN, cancel_id)
    assert len(lines(caplog, CANCEL_COMPLETE)) == 1, "it is open"
    await parts.claims.report_status(RUN, "late", "cancelled")
    await parts.sweep_now(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    assert len(lines(caplog, CANCEL_COMPLETE)) == 2


async def test_those_that_fall_due_together_are_summed_up_a_few_at_a_time(
    b: broker.Broker, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """All are leased when the first ones go on; a cancel that is asked for meanwhile waits behind a few, not all."""
    executions = [f"x{number}" for number in range(3 * FEW)]
    await b.register(RUN, [broker.Execution(one) for one in executions])
    cancels = [(await b.cancel_execution(one)).cancel_id for one in executions]
    leased, here, most = asyncio.Semaphore(0), 0, 0

    async def listener(point: str, _: str) -> None:
        nonlocal here, most
        if point == "sweep.leased":
            leased.release()
        elif point == "cancel.summing_up":
            here, most = here + 1, max(most, here + 1)
            await all_leased
            await b.execution(executions[0])  # round trips: whoever may come, comes
            here -= 1

    async def each() -> None:
        for _ in cancels:
            await leased.acquire()

    all_leased = asyncio.ensure_future(each())
    with signals.listening(listener):
        await asyncio.gather(*(parts.sweep.look(RUN, one) for one in cancels))
    assert most == FEW
    assert len(lines(caplog, CANCEL_COMPLETE)) == len(cancels)
