"""A cancel meets its execution at every moment of its life, and one lost way of delivery does not matter."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

import broker
from broker.protocol.messages import CancelMessage, parse_message
from broker.protocol.records import as_stamp
from broker.protocol.states import Source
from broker.store.claims import Holder
from broker.worker.intents import Intents
from tests.support.fleet import RUN, Body, Fleet, open_fleet, settings
from tests.support.points import doing, holding, recording
from tests.support.wait import wait_until

DEAF: dict[str, Any] = {"push": False, "poll": False, "reconcile": False}


async def cleanup(body: Body) -> None:
    """Waits, and when it is cancelled cleans up with an await, until the test lets it go on."""
    try:
        await asyncio.Event().wait()
    finally:
        body.steps.append("cleanup begins")
        await body.go_on.wait()
        body.steps.append("cleanup ends")


def never_ran(error: BaseException | None) -> broker.CancelCause:
    assert isinstance(error, broker.ExecutionCancelled), error
    return error.cause


# --- the moments of a life ----------------------------------------------------------------------------


async def test_cancelled_before_subscribe(redis_url: str) -> None:
    async with open_fleet(redis_url) as fleet:
        await fleet.control.register(RUN, [broker.Execution("known")])
        report = await fleet.control.cancel_run(RUN, reason="user", requested_by="ops@example")
        for execution_id in ("known", "spawned-late"):
            body = fleet.body(execution_id)
            cause = never_ran(await body.end())
            assert body.steps == []
            assert cause == broker.CancelCause(
                report.cancel_id, "cancel_tree", "user", "ops@example", as_stamp(report.requested_at) or 0
            )
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"never_started": 2})


async def test_cancelled_between_subscribe_and_start(redis_url: str) -> None:
    async with open_fleet(redis_url) as fleet:
        await fleet.control.register(RUN, [broker.Execution("x")])
        with holding("worker.confirmed") as subscribed:
            body = fleet.body("x")
            await subscribed.arrived()
            await fleet.control.cancel_run(RUN)
        never_ran(await body.end())
        assert body.steps == []
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"never_started": 1})


async def test_cancelled_between_start_and_the_first_line(redis_url: str) -> None:
    """Held from before SUBSCRIBE: what is heard while the answer of `start` is under way is kept."""
    async with open_fleet(redis_url) as fleet:
        with holding("worker.started") as started, recording() as passed:
            body = fleet.body("x")
            await started.arrived()
            report = await fleet.control.cancel_run(RUN)
            assert report.totals.still_running == 1
            await wait_until(lambda: ("worker.applied", "x") in passed, "the worker to hear")
        never_ran(await body.end())
        assert body.steps == []
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"stopped": 1})


async def test_in_a_crowd_all_that_go_on_are_said_to_be_stopping_and_those_that_ended_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause before `received` grows with the crowd; who has ended meanwhile holds up nobody."""
    monkeypatch.setattr("broker.worker.intents.CROWD_S", 0.05)
    async with open_fleet(redis_url) as fleet:
        quick = [await fleet.body(f"quick-{number}").begun() for number in range(3)]
        slow = [await fleet.body(f"slow-{number}", cleanup).begun() for number in range(3)]
        await fleet.control.cancel_run(RUN)
        for body in slow:
            await fleet.until_cause(body.execution.execution_id, "stopping")
        for body in quick:
            await body.end()
            ended = await fleet.settled_ack(body.execution.execution_id)
            assert (ended.disposition, ended.seq) == ("stopped", "0"), "its end was all that was said of it"
        for body in slow:
            ack = await fleet.parts.ack_of(RUN, body.execution.execution_id)
            assert ack is not None
            assert (ack.disposition, ack.seq) == ("received", "1")
            body.go_on.set()
            await body.end()


async def test_t10_cancelled_again_during_cleanup(redis_url: str) -> None:
    """A redelivered message is acked again, and does not interrupt the cleanup."""
    async with open_fleet(redis_url) as fleet:
        body = await fleet.body("x", cleanup).begun()
        report = await fleet.control.cancel_run(RUN)
        await fleet.until_cause("x", "stopping")
        operation = await fleet.parts.operations.lease(RUN, report.cancel_id)
        assert not isinstance(operation, str)
        for seq in ("2", "3"):
            assert await fleet.parts.operations.redeliver(RUN, operation, ["x"]) == 1

            async def acked(seq: str = seq) -> bool:
                ack = await fleet.parts.ack_of(RUN, "x")
                return ack is not None and (ack.disposition, ack.seq) == ("received", seq)

            await wait_until(acked, f"ack {seq}")
        assert body.steps == ["first line", "cleanup begins"]
        assert body.task.cancelling() == 1
        body.go_on.set()
        assert isinstance(await body.end(), broker.ExecutionCancelled)
        assert body.steps == ["first line", "cleanup begins", "cleanup ends"]
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"stopped": 1})
        intent = await fleet.parts.intent(RUN, "x")
        assert intent is not None
        assert (intent.attempt, intent.cancel_id) == (3, report.cancel_id)


async def test_the_end_comes_just_before_the_cancel(redis_url: str) -> None:
    async with open_fleet(redis_url) as fleet:
        body = await fleet.body("x").begun()
        with holding("cancel.loaded") as loaded:
            cancelling = asyncio.create_task(fleet.control.cancel_run(RUN))
            await loaded.arrived()
            body.go_on.set()
            assert await body.end() is None
        report = await cancelling
        (node,) = report.nodes
        assert (node.previous_status, node.status, node.skip_reason) == ("running", "skipped", "raced_to_terminal")
        assert (report.state, report.totals.skipped, report.totals.cancelled) == ("settled", 1, 0)
        assert await fleet.parts.status(RUN, "x") == "succeeded"
        assert await fleet.parts.intent(RUN, "x") is None


async def test_the_end_comes_just_after_the_cancel(redis_url: str) -> None:
    """The worker is deaf here, so the body ends by itself with the cancel on its way to it."""
    async with open_fleet(redis_url, **DEAF) as fleet:
        body = await fleet.body("x").begun()
        report = await fleet.control.cancel_run(RUN)
        (node,) = report.nodes
        assert (node.previous_status, node.status, node.skip_reason) == ("running", "cancelled", None)
        body.go_on.set()
        assert await body.end() is None
        ack = await fleet.settled_ack("x")
        assert (ack.disposition, ack.outcome) == ("ended_itself", "succeeded")
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"ended_itself": 1})
        assert await fleet.parts.status(RUN, "x") == "cancelled"


async def test_cancelled_after_the_end(redis_url: str) -> None:
    async with open_fleet(redis_url) as fleet:
        body = await fleet.body("x").begun()
        body.go_on.set()
        assert await body.end() is None
        with pytest.raises(broker.AlreadyTerminal) as raised:
            await fleet.control.cancel_execution("x")
        assert raised.value.status == "succeeded"
        report = await fleet.control.cancel_run(RUN)
        (node,) = report.nodes
        assert (node.status, node.skip_reason) == ("succeeded", "terminal")
        assert (report.state, report.totals.cancelled, report.dispositions) == ("settled", 0, {})
        with pytest.raises(broker.AlreadyTerminal):
            async with fleet.worker.execution(RUN, "x"):
                pytest.fail("the body of an ended execution ran")


# --- ways of delivery ---------------------------------------------------------------------------------


async def test_t03_the_connection_is_killed_right_before_the_publish(redis_url: str) -> None:
    async with open_fleet(redis_url, poll=False) as fleet:
        bodies = [await fleet.body(f"x-{number}").begun() for number in range(3)]
        killed: list[int] = []

        async def kill() -> None:
            killed.append(await fleet.kill_pubsub())

        with doing("cancel.loaded", kill):
            report = await fleet.control.cancel_run(RUN, wait=10.0)
        assert killed >= [1]
        assert (report.state, report.dispositions) == ("settled", {"stopped": 3})
        for body in bodies:
            assert isinstance(await body.end(), broker.ExecutionCancelled)


@pytest.mark.parametrize("path", ["push", "poll", "reconcile"])
async def test_each_path_delivers_alone(redis_url: str, path: str) -> None:
    alone = DEAF | {path: True, "heartbeat_s": 0.05 if path == "poll" else 3600.0}
    async with open_fleet(redis_url, **alone) as fleet:
        body = await fleet.body("x").begun()
        await fleet.control.cancel_run(RUN, reason="why", requested_by="who")
        if path == "reconcile":
            assert body.execution.cause is None
            await fleet.kill_pubsub()
        error = await body.end()
        assert isinstance(error, broker.ExecutionCancelled)
        assert (error.cause.source, error.cause.reason, error.cause.requested_by) == ("cancel_tree", "why", "who")
        assert (await fleet.control.report(RUN)).dispositions == {"stopped": 1}


async def test_redelivery_delivers_alone(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message is lost on the way and nothing else looks: only that it is told again reaches the worker."""
    hear, lost = Intents.hear, list[int]()

    def hear_only_repeats(intents: Intents, payload: bytes) -> None:
        message = parse_message(payload)
        assert isinstance(message, CancelMessage)
        if message.attempt == 1:
            lost.append(message.attempt)
        else:
            hear(intents, payload)

    monkeypatch.setattr(Intents, "hear", hear_only_repeats)
    monkeypatch.setattr("broker.cancel.schedule.told_for_us", lambda attempt: 0)
    async with open_fleet(redis_url, **(DEAF | {"push": True})) as fleet:
        body = await fleet.body("x").begun()
        report = await fleet.control.cancel_run(RUN)
        await wait_until(lambda: lost == [1], "the first message to be lost")
        assert body.execution.cause is None
        await fleet.parts.sweep_now(RUN, report.cancel_id)
        assert isinstance(await body.end(), broker.ExecutionCancelled)
        assert (await fleet.control.report(RUN)).dispositions == {"stopped": 1}


async def test_t33_a_forged_message_does_nothing(redis_url: str) -> None:
    async with open_fleet(redis_url) as fleet, Redis.from_url(redis_url) as client:
        body = await fleet.body("x").begun()
        forged = CancelMessage(
            cancel_id="c_forged", run_id=RUN, execution_id="x", source=Source.CANCEL_TREE, reason="forged",
            published_at_us=1, deadline_us=2, force=True,
        )  # fmt: skip
        channel = fleet.parts.backend.keys.cancel_channel(RUN, "x")
        with recording() as passed:
            for payload in (b"\xff no message", b'{"v":2,"type":"cancel"}', forged.model_dump_json().encode()):
                assert await client.publish(channel, payload) == 1
            await wait_until(lambda: ("worker.looked", "") in passed, "the worker to look for an intent")
        assert not body.execution.cancel_requested
        report = await fleet.control.cancel_run(RUN, reason="real", wait=10.0)
        assert report.dispositions == {"stopped": 1}
        assert body.execution.cause is not None
        assert (body.execution.cause.cancel_id, body.execution.cause.reason) == (report.cancel_id, "real")
        await body.end()


# --- asking twice -------------------------------------------------------------------------------------


async def test_a_repeated_cancel_is_the_same_operation(redis_url: str) -> None:
    async with open_fleet(redis_url) as fleet:
        body = await fleet.body("x", cleanup).begun()
        first = await fleet.control.cancel_run(RUN, reason="first", deadline=30.0)
        again = await fleet.control.cancel_run(RUN, reason="again", deadline=3000.0)
        assert (again.cancel_id, again.deadline_at, again.reason) == (
            first.cancel_id, first.deadline_at, "first",
        )  # fmt: skip
        assert [(node.status, node.skip_reason) for node in again.nodes] == [("cancelled", "terminal")]
        await wait_until(lambda: "cleanup begins" in body.steps, "the cancel")
        body.go_on.set()
        assert isinstance(await body.end(), broker.ExecutionCancelled)
        assert body.steps == ["first line", "cleanup begins", "cleanup ends"]


async def start_refused(worker: broker.Worker, fleet: Fleet) -> None:
    with pytest.raises(broker.AlreadyClaimed, match="held by worker w1"):
        async with worker.execution(RUN, "x"):
            pytest.fail("two bodies of one execution")


async def test_a_held_execution_is_not_started_again(redis_url: str) -> None:
    async with open_fleet(redis_url) as fleet, broker.Worker(redis_url, worker_id="w2") as other:
        body = await fleet.body("x").begun()
        await start_refused(fleet.worker, fleet)
        await start_refused(other, fleet)
        report = await fleet.control.cancel_run(RUN, wait=10.0)
        assert report.dispositions == {"stopped": 1}  # the refused ones took nothing of the first one with them
        assert isinstance(await body.end(), broker.ExecutionCancelled)


async def test_a_claim_that_is_superseded_before_its_answer_arrives_is_found_by_a_later_poll(redis_url: str) -> None:
    """The poll that reads the risen epoch cannot tell: the worker does not know the number of its claim yet."""
    async with open_fleet(redis_url, heartbeat_s=0.02) as fleet:
        with holding("worker.started") as starting, recording() as passed:
            body = fleet.body("x")
            await starting.arrived()
            assert (await fleet.parts.start(RUN, "x", holder=Holder("w2", 1), supersedes="1")).start == 2
            beats = passed.count(("worker.beating", "w1"))
            await wait_until(lambda: passed.count(("worker.beating", "w1")) > beats + 2, "two whole beats")
            starting.release()
            assert isinstance(await body.end(), broker.Fenced)
        assert await fleet.parts.status(RUN, "x") == "running"


async def test_a_claim_whose_holder_has_died_is_superseded(redis_url: str) -> None:
    """The old holder lives after all: it learns by its poll that it was replaced, and its end is late, not applied."""
    async with (
        open_fleet(redis_url, heartbeat_s=0.05, heartbeat_ttl_s=60.0) as fleet,
        Redis.from_url(redis_url) as client,
    ):
        with holding("worker.beating") as heart:
            old = await fleet.body("x").begun()
            await heart.arrived()  # its heart stands still from here on
            await client.delete(fleet.parts.backend.keys.worker("w1"))
            async with broker.Worker.with_settings(settings(redis_url, "w2")) as other:
                new = await Body(other, "x").begun()
                record = await fleet.parts.reads.execution(RUN, "x")
                assert record is not None
                assert record.start == "2"
                heart.release()
                assert isinstance(await old.end(), broker.Fenced)
                assert await fleet.parts.status(RUN, "x") == "running"
                report = await fleet.control.cancel_run(RUN, wait=10.0)
                assert report.dispositions == {"stopped": 1}
                assert isinstance(await new.end(), broker.ExecutionCancelled)
                ack = await fleet.settled_ack("x")
                assert ack.start == "2"
