"""Alive but not holding is asked, not guessed; and who holds what was taken from it finds out, stops, and says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

import broker
from broker.cancel.liveness import Liveness
from broker.store.claims import Holder, Loss
from tests.support.fleet import RUN, Body, Fleet, open_fleet
from tests.support.parts import Parts
from tests.support.points import holding, recording
from tests.support.wait import wait_until

W1 = Holder("w1", 1)


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with open_fleet(redis_url) as opened:
        yield opened


@pytest.fixture
async def beating(redis_url: str) -> AsyncIterator[Fleet]:
    """Its heart beats all the time, so what is found by polling is found."""
    async with open_fleet(redis_url, heartbeat_s=0.02) as opened:
        yield opened


async def stubborn(body: Body) -> None:
    """Swallows the cancel and stands on: heard, and not stopping."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        body.steps.append("swallowed")
    await body.go_on.wait()


async def ask(fleet: Fleet, *claims: tuple[str, int], incarnation: int = 1) -> None:
    await fleet.parts.claims.ask(RUN, Holder("w1", incarnation), list(claims))


async def until_log(parts: Parts, event: str) -> str:
    """The detail of the first line of the run's log that is such an event."""

    async def found() -> str | None:
        entries = await parts.backend.commands.command("XRANGE", parts.backend.run(RUN).log, "-", "+")
        lines = [dict(zip(flat[0::2], flat[1::2], strict=True)) for _, flat in entries]
        return next((line["detail"] for line in lines if line["event"] == event), None)

    detail = await wait_until(found, f"{event} in the log of the run")
    assert detail is not None
    return detail


def ghosts_in(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    lines = [json.loads(record.message) for record in caplog.records if record.name == "broker.worker"]
    return [line for line in lines if line["event"] == "execution.ghost"]


async def until_disposition(parts: Parts, execution_id: str, word: str) -> None:
    async def is_so() -> bool:
        ack = await parts.ack_of(RUN, execution_id)
        return ack is not None and ack.disposition == word

    await wait_until(is_so, f"{execution_id} to be {word}")


async def no_key_left_behind(fleet: Fleet) -> None:
    """A fenced or forgotten worker leaves its record to its TTL; the test does not wait for it."""
    async with Redis.from_url(fleet.url) as client:
        await client.delete(fleet.parts.backend.keys.worker("w1"))


# --- do you hold -------------------------------------------------------------------------------------------------


async def test_t11_a_claim_whose_answer_was_lost_is_found_by_asking(fleet: Fleet) -> None:
    """The store believes that w1 holds it; w1 knows nothing of it. Silence proves nothing, the answer does."""
    assert (await fleet.parts.start(RUN, "x", holder=W1)).code == "claimed"
    report = await fleet.control.cancel_run(RUN)
    assert await fleet.cause_of("x") == "not_delivered"
    await fleet.parts.operations.reschedule(RUN, report.cancel_id, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broker.cancel.schedule.told_for_us", lambda attempt: 0)
        await fleet.parts.sweep.once()
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.detail) == ("lost", "not_held")
    assert (await fleet.control.report(RUN)).state == "settled"
    assert await until_log(fleet.parts, "lost") == "x start 1 of w1: not_held"


async def test_it_is_asked_together_with_a_redelivery_and_only_where_nothing_was_heard(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where it was heard, not where nothing is to be told again, and not where its heart does not beat."""
    asked: list[tuple[str, int]] = []

    async def note(run_id: str, holder: Holder, claims: list[tuple[str, int]]) -> None:
        assert (run_id, holder) == (RUN, W1)
        asked.extend(claims)

    monkeypatch.setattr(fleet.parts.claims, "ask", note)
    for execution_id in ("silent", "heard"):
        await fleet.parts.start(RUN, execution_id, holder=W1)
    await fleet.parts.start(RUN, "of-the-dead", holder=Holder("w2", 1))
    await fleet.parts.start(RUN, "of-an-older", holder=Holder("w1", 0))
    report = await fleet.control.cancel_run(RUN)
    await fleet.parts.ack(RUN, "heard", "received", holder=W1)
    await fleet.parts.sweep_now(RUN, report.cancel_id)
    assert asked == [], "nothing is to be told again yet"
    monkeypatch.setattr("broker.cancel.schedule.told_for_us", lambda attempt: 0)
    await fleet.parts.sweep_now(RUN, report.cancel_id)
    assert asked == [("silent", 1)]


async def test_only_the_beating_process_is_asked_and_only_what_it_said_nothing_of(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is due, by force for instance: the heart that beats is not that of every claim of the worker id."""
    asked: list[tuple[Holder, tuple[str, int]]] = []

    async def note(run_id: str, holder: Holder, claims: list[tuple[str, int]]) -> None:
        asked.extend((holder, claim) for claim in claims)

    monkeypatch.setattr(fleet.parts.claims, "ask", note)
    ids = ["silent", "heard", "of-an-older"]
    for execution_id in ids:
        holder = Holder("w1", 0) if execution_id == "of-an-older" else W1
        await fleet.parts.start(RUN, execution_id, holder=holder)
    await fleet.control.cancel_run(RUN)
    await fleet.parts.ack(RUN, "heard", "received", holder=W1)
    liveness = Liveness(fleet.parts.reads, fleet.parts.claims)
    await liveness.ask(RUN, await liveness.look(RUN, ids), ids)
    assert asked == [(W1, ("silent", 1))]


async def test_not_held_is_said_until_it_is_accepted(redis_url: str) -> None:
    """The worker leaves while its answer is under way: first it says what waits to be said."""
    async with open_fleet(redis_url) as fleet:
        await fleet.parts.start(RUN, "x", holder=W1)
        await fleet.control.cancel_run(RUN)
        with holding("worker.disowning") as answering, recording() as passed:
            await ask(fleet, ("x", 1))
            await answering.arrived()
            leaving = asyncio.create_task(fleet.worker.__aexit__(None, None, None))
            await wait_until(lambda: ("worker.leaving", "w1") in passed, "the goodbye to begin")
            answering.release()
            await leaving
        ack = await fleet.parts.ack_of(RUN, "x")
        assert ack is not None
        assert ack.disposition == "lost"


@pytest.mark.parametrize("what", ["another incarnation", "another start", "nothing of ours", "no message"])
async def test_only_the_process_and_the_claim_that_are_meant_answer(what: str, fleet: Fleet) -> None:
    await fleet.parts.start(RUN, "x", holder=W1)
    await fleet.control.cancel_run(RUN)
    channel = fleet.parts.backend.keys.control_channel("w1")
    if what == "another incarnation":
        await ask(fleet, ("x", 1), incarnation=2)
    elif what == "another start":
        await ask(fleet, ("x", 2))
    elif what == "nothing of ours":
        await fleet.parts.backend.commands.publish(channel, b'{"v":1,"type":"acks","at_us":"1"}')
    else:
        await fleet.parts.backend.commands.publish(channel, b"\xff do you hold?")
    assert await _alive(fleet)
    assert (await fleet.parts.ack_of(RUN, "x")) is None
    assert (await fleet.control.report(RUN)).totals.still_running == 1


async def _alive(fleet: Fleet) -> bool:
    """What was sent to the control channel before is dealt with: a question that is answered comes after it."""
    await fleet.parts.claims.index("run-2", ["mark-2"])
    await fleet.parts.start("run-2", "mark-2", holder=W1)
    report = await fleet.control.cancel_run("run-2")
    await fleet.parts.claims.ask("run-2", W1, [("mark-2", 1)])

    async def lost() -> bool:
        return (await fleet.control.report("run-2", report.cancel_id)).state == "settled"

    return await wait_until(lost, "the later question to be answered")


async def test_held_counts_from_before_subscribe(fleet: Fleet) -> None:
    """The answer of `start` is under way: the claim stands in the store, and the worker does hold it."""
    with holding("worker.started") as starting:
        body = fleet.body("x")
        await starting.arrived()
        await fleet.control.cancel_run(RUN)
        await ask(fleet, ("x", 1))
        assert await _alive(fleet)
        assert (await fleet.parts.ack_of(RUN, "x")) is None
        starting.release()
        assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_held_counts_until_the_end_is_recorded(fleet: Fleet) -> None:
    body = await fleet.body("x", stubborn).begun()
    with holding("worker.ending") as ending:
        await fleet.control.cancel_run(RUN)
        body.go_on.set()
        await ending.arrived()
        await ask(fleet, ("x", 1))
        assert await _alive(fleet)
        assert await fleet.cause_of("x") is not None
        ending.release()
        await body.end()
    assert (await fleet.settled_ack("x")).disposition == "ended_itself"


async def test_a_question_delivers_a_cancel_that_was_not_heard(redis_url: str) -> None:
    """Every message was lost, nothing is polled: being asked, the worker reads the intent of what it holds."""
    async with open_fleet(redis_url, push=False, poll=False, reconcile=False) as fleet:
        body = await fleet.body("x").begun()
        await fleet.control.cancel_run(RUN)
        await ask(fleet, ("x", 1))
        assert isinstance(await body.end(), broker.ExecutionCancelled)


# --- ghosts ------------------------------------------------------------------------------------------------------


async def test_t29_a_ghost_of_a_lost_claim_finds_out_and_takes_the_loss_back(beating: Fleet) -> None:
    """The proof was mistaken: the poll finds that the claim is closed, and the sign of life reopens all."""
    body = await beating.body("x", stubborn).begun()
    report = await beating.control.cancel_run(RUN)
    await wait_until(lambda: "swallowed" in body.steps, "the cancel to be swallowed")
    await until_disposition(beating.parts, "x", "received")
    assert await beating.parts.claims.lose(RUN, W1, [Loss("x", 1, "by mistake")]) == ["lost"]
    assert await until_log(beating.parts, "ghost") == "x start 1 of w1 was lost: received"
    (one,) = (await beating.control.report(RUN, report.cancel_id)).still_running
    assert (one.execution_id, one.cause, one.worker_id) == ("x", "stopping", "w1")
    assert (await beating.parts.operation(RUN, report.cancel_id)).state == "open"
    body.go_on.set()
    assert await body.end() is None
    assert (await beating.settled_ack("x")).disposition == "ended_itself"
    assert (await beating.parts.operation(RUN, report.cancel_id)).state == "settled"


async def test_a_ghost_is_told_to_whoever_reads_the_workers_log(
    beating: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    body = await beating.body("x", stubborn).begun()
    await beating.control.cancel_run(RUN)
    await until_disposition(beating.parts, "x", "received")
    await beating.parts.claims.lose(RUN, W1, [Loss("x", 1, "by mistake")])
    await until_log(beating.parts, "ghost")
    assert [(line["execution_id"], line["start"], line["run_id"]) for line in ghosts_in(caplog)] == [("x", 1, RUN)]
    body.go_on.set()
    await body.end()


async def test_t29_a_worker_declared_dead_stops_what_it_holds_and_says_so(redis_url: str) -> None:
    """It was only asleep. Cancelled or not, nothing of it goes on; what was cancelled is not `lost` but stopped."""
    async with open_fleet(redis_url, heartbeat_s=0.02) as fleet:
        with holding("worker.beating") as heart:
            cancelled, other = await fleet.body("x", stubborn).begun(), await fleet.body("y").begun()
            await heart.arrived()
            report = await fleet.control.cancel_execution("x")
            await until_disposition(fleet.parts, "x", "received")
            await no_key_left_behind(fleet)
            assert await fleet.parts.claims.declare_dead("w1", 1, "no sign of it") == 2
            await fleet.parts.sweep_now(RUN, report.cancel_id)
            assert (await fleet.control.report(RUN, report.cancel_id)).dispositions == {"lost": 1}
        assert "was lost: received" in await until_log(fleet.parts, "ghost")
        assert (await fleet.control.report(RUN, report.cancel_id)).state == "open"

        async def settled_by_a_look() -> bool:
            """The poll of the same beat may say once more that it lives, and so reopen it once more."""
            await fleet.parts.sweep_now(RUN, report.cancel_id)
            return (await fleet.control.report(RUN, report.cancel_id)).settled

        await wait_until(settled_by_a_look, "the proof, which is a state, to settle it again")
        assert isinstance(await other.end(), broker.Fenced)
        cancelled.go_on.set()
        await cancelled.end()
        await until_disposition(fleet.parts, "x", "ended_itself")
        assert (await fleet.control.report(RUN, report.cancel_id)).state == "settled"
        await no_key_left_behind(fleet)


async def test_what_has_ended_is_no_ghost(beating: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """Its claim is closed because it has just ended: that is no news, and is said to nobody."""
    body = await beating.body("x", stubborn).begun()
    report = await beating.control.cancel_run(RUN)
    await wait_until(lambda: "swallowed" in body.steps, "the cancel to be swallowed")
    body.go_on.set()
    await body.end()
    await beating.parts.claims.lose(RUN, W1, [Loss("x", 1, "too late")])
    with recording() as passed:
        await wait_until(lambda: passed.count(("worker.beating", "w1")) > 2, "more beats")
    assert ghosts_in(caplog) == []
    assert (await beating.control.report(RUN, report.cancel_id)).dispositions == {"ended_itself": 1}


async def test_an_end_whose_answer_is_under_way_is_no_ghost(beating: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """The claim is closed, by our own word; it is held until the worker knows that this was written."""
    body = await beating.body("x", stubborn).begun()
    with holding("worker.ending") as ending, recording() as passed:
        await beating.control.cancel_run(RUN)
        body.go_on.set()
        await ending.arrived()
        await beating.parts.finish(RUN, "x", holder=W1)
        await beating.parts.backend.commands.command("HINCRBY", beating.parts.backend.run(RUN).run, "epoch", "1")
        beats = passed.count(("worker.beating", "w1"))
        await wait_until(lambda: passed.count(("worker.beating", "w1")) > beats + 2, "polls of the new epoch")
        assert ghosts_in(caplog) == []
    await body.end()


async def test_a_start_whose_answer_is_under_way_is_no_ghost(beating: Fleet) -> None:
    """The store knows its start number and the worker does not yet: that is no newer claim."""
    with holding("worker.started") as starting, recording() as passed:
        body = beating.body("x")
        await starting.arrived()
        await beating.control.cancel_run(RUN)
        beats = passed.count(("worker.beating", "w1"))
        await wait_until(lambda: passed.count(("worker.beating", "w1")) > beats + 2, "polls of the new epoch")
    assert isinstance(await body.end(), broker.ExecutionCancelled)


# --- wedged or dead ----------------------------------------------------------------------------------------------


async def test_a_wedged_worker_is_told_from_a_dead_one(redis_url: str) -> None:
    """Heard and not stopping, with a heart that beats; then the heart stops, and the report says since when."""
    async with open_fleet(redis_url, heartbeat_s=0.02) as fleet:
        body = await fleet.body("wedged", stubborn).begun()
        await fleet.parts.start(RUN, "silent", holder=Holder("v", 1))
        assert await fleet.parts.claims.new_incarnation("v") == 1
        await fleet.parts.claims.heartbeat(Holder("v", 1), "", 1, 60.0)
        await fleet.control.cancel_run(RUN)
        await fleet.until_cause("wedged", "stopping")
        report = await fleet.control.report(RUN)
        seen = {one.execution_id: (one.cause.value, one.worker_last_seen) for one in report.still_running}
        assert seen["wedged"][0] == "stopping"
        assert seen["silent"][0] == "not_delivered"
        assert None not in (seen["wedged"][1], seen["silent"][1])
        async with Redis.from_url(redis_url) as client:
            await client.delete(fleet.parts.backend.keys.worker("v"))
        (dead,) = [one for one in (await fleet.control.report(RUN)).still_running if one.execution_id == "silent"]
        assert dead.cause == "worker_lost"
        assert dead.worker_last_seen is not None
        assert dead.worker_last_seen > (seen["silent"][1] or 0.0)
        body.go_on.set()
        await body.end()


async def test_a_wedged_worker_that_heard_nothing_is_no_ack(fleet: Fleet) -> None:
    """Somebody is subscribed, nothing was said, the heart beats: neither dead nor out of reach."""
    body = await fleet.body("x", stubborn).begun()
    with holding("worker.acking") as saying:
        await fleet.control.cancel_run(RUN)
        await saying.arrived()
        (one,) = (await fleet.control.report(RUN)).still_running
        assert (one.cause, one.worker_id) == ("no_ack", "w1")
        assert one.worker_last_seen is not None
    body.go_on.set()
    await body.end()
