"""Redis comes back without what it acknowledged: what was accepted is asserted again, what ended is said again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

import broker
from broker.cancel import reassert
from broker.protocol.records import OperationRecord
from broker.protocol.states import Disposition, Scope
from broker.store.claims import Claim, Holder
from broker.store.operations import Asserted, CancelTerms
from broker.worker.held import Held
from broker.worker.outcome import Outcome
from broker.worker.restore import Restorer
from tests.support.fleet import RUN, Body, Fleet, open_fleet
from tests.support.observer import observing
from tests.support.parts import HOLDER, Parts
from tests.support.points import PATIENCE_S, holding, recording
from tests.support.redis_server import RedisServer, find_program
from tests.support.wait import wait_until


@pytest.fixture
def forgetful() -> Iterator[RedisServer]:
    """A server that loses everything when it is killed."""
    if find_program() is None:
        pytest.skip("no redis-server")
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def fleet_of(server: RedisServer) -> AsyncIterator[Fleet]:
    async with open_fleet(server.url, timeout_s=PATIENCE_S, heartbeat_s=0.05) as fleet:
        yield fleet


async def lose_everything(server: RedisServer) -> None:
    server.kill()
    await asyncio.to_thread(server.restart)


async def cleanup(body: Body) -> None:
    """Heard, and not stopped yet, until the test lets it go on."""
    try:
        await asyncio.Event().wait()
    finally:
        body.steps.append("cleanup begins")
        await body.go_on.wait()


async def operation_of(fleet: Fleet, cancel_id: str) -> OperationRecord | None:
    return await fleet.parts.reads.operation(RUN, cancel_id)


async def until_asserted(fleet: Fleet, cancel_id: str) -> OperationRecord:
    found = await wait_until(lambda: operation_of(fleet, cancel_id), "the operation to be asserted again")
    assert found is not None
    return found


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has to speak in these tests: settled may be said when everyone here has."""
    monkeypatch.setattr(reassert, "SETTLE_AFTER_US", 0)


@pytest.mark.parametrize("point", ["cancel.gated", "cancel.loaded", "cancel.published", "cancel.handed_over"])
async def test_t08_everything_is_lost_in_the_middle_of_a_cancel(
    point: str, forgetful: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same cancel id, same terms, same deadline; the worker hears it, and its end settles it."""
    hurry(monkeypatch)
    async with fleet_of(forgetful) as fleet:
        body = await fleet.body("x", cleanup).begun()
        with holding(point) as held:
            cancelling = asyncio.create_task(fleet.control.cancel_run(RUN, reason="why", requested_by="who"))
            await held.arrived()
            (before,) = await fleet.parts.reads.operations(RUN)
            with recording() as passed:
                await lose_everything(forgetful)
                held.release()
                report = await cancelling
                assert (report.cancel_id, report.reason, report.requested_by) == (before.cancel_id, "why", "who")
                after = await until_asserted(fleet, before.cancel_id)
                assert after.requested_at_us == before.requested_at_us
                assert (after.deadline_us, after.give_up_us) == (before.deadline_us, before.give_up_us)
                await wait_until(lambda: ("worker.restored", "w1") in passed, "the worker to speak again")
        await wait_until(lambda: "cleanup begins" in body.steps, "the body to hear")
        await fleet.until_cause("x", "stopping")
        report = await fleet.control.report(RUN)
        assert (report.cancel_id, report.state) == (before.cancel_id, "open"), "it has not stopped yet"
        body.go_on.set()
        assert isinstance(await body.end(), broker.ExecutionCancelled)
        assert body.steps.count("cleanup begins") == 1

        await fleet.parts.sweep_now(RUN, before.cancel_id)
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"stopped": 1})


async def test_t08_what_is_held_under_no_cancel_is_claimed_again(forgetful: RedisServer) -> None:
    async with fleet_of(forgetful) as fleet:
        body = await fleet.body("x").begun()
        with recording() as passed:
            await lose_everything(forgetful)
            await wait_until(lambda: ("worker.restored", "w1") in passed, "the worker to speak again")
        record = await fleet.parts.reads.execution(RUN, "x")
        assert record is not None
        assert (record.status, record.start, record.claimed) == ("running", "1", True)
        report = await fleet.control.cancel_run(RUN, wait=PATIENCE_S)
        assert (report.state, report.dispositions) == ("settled", {"stopped": 1})
        assert isinstance(await body.end(), broker.ExecutionCancelled)


@pytest.mark.parametrize("first", ["driver", "worker"])
async def test_t08_an_end_that_was_accepted_is_said_again(
    first: str, forgetful: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever speaks first: the cancel that is asserted again finds that `x` had stopped, and `y` has not."""
    hurry(monkeypatch)
    async with fleet_of(forgetful) as fleet:
        stopped, going_on = await fleet.body("x").begun(), await fleet.body("y", cleanup).begun()
        cancel_id = (await fleet.control.cancel_run(RUN)).cancel_id
        assert isinstance(await stopped.end(), broker.ExecutionCancelled)
        await wait_until(lambda: "cleanup begins" in going_on.steps, "y to hear")
        memory = fleet.control._replica.engine.memory
        with recording() as passed:
            if first == "worker":
                monkeypatch.setattr(fleet.control._replica.claims._backend.commands, "on_new_server", None)
            await lose_everything(forgetful)
            if first == "worker":
                await wait_until(lambda: ("worker.restored", "w1") in passed, "the worker to speak again")
                memory.server_changed()
            else:
                await fleet.parts.operations.now_us()
                with suppress(broker.NotFound):  # unless it is asserted again already
                    await fleet.control.report(RUN)
            await until_asserted(fleet, cancel_id)
            await wait_until(lambda: ("worker.restored", "w1") in passed, "the worker to speak again")
        await fleet.until_cause("y", "stopping")
        report = await fleet.control.report(RUN)
        assert report.state == "open"
        assert report.dispositions == {"stopped": 1, "received": 1}
        going_on.go_on.set()
        await going_on.end()
        await fleet.parts.sweep_now(RUN, cancel_id)
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"stopped": 2})


async def test_t08_it_is_not_settled_before_the_workers_had_time_to_speak(forgetful: RedisServer) -> None:
    """An empty run has nothing unsettled; that is no evidence as long as its workers may not know of the loss."""
    async with broker.connect(forgetful.url, timeout=PATIENCE_S, sweep=False) as control, fleet_of(forgetful) as fleet:
        await control.register(RUN, [broker.Execution("x", status="running")])
        cancel_id = (await control.cancel_run(RUN)).cancel_id
        await lose_everything(forgetful)
        with pytest.raises(broker.NotFound):  # asked for before the gate stands again
            await control.report(RUN)
        await until_asserted(fleet, cancel_id)
        await control._replica.engine.memory.walked(cancel_id)
        operation = await until_asserted(fleet, cancel_id)
        assert (operation.phase, operation.state) == ("published", "open")
        await fleet.parts.sweep_now(RUN, cancel_id)
        assert (await control.report(RUN)).state == "open"
        assert (await fleet.parts.start(RUN, "late")).code == "cancelled", "the gate is closed all the while"


@pytest.mark.parametrize("scope", ["execution", "subtree"])
async def test_t08_the_target_of_a_narrow_cancel_is_not_taken_for_never_started(
    scope: str, forgetful: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    async with fleet_of(forgetful) as fleet:
        body = await fleet.body("x", cleanup).begun()
        cancel = fleet.control.cancel_execution if scope == "execution" else fleet.control.cancel_subtree
        cancel_id = (await cancel("x")).cancel_id
        with recording() as passed, holding("worker.beating") as heart:
            await heart.arrived()  # the worker says nothing for now
            restorer, say_again = fleet.worker._listener._restorer, fleet.worker._listener._restorer.say_again
            monkeypatch.setattr(restorer, "say_again", lambda: None)
            await lose_everything(forgetful)
            with pytest.raises(broker.NotFound):
                await fleet.control.report(RUN)
            await until_asserted(fleet, cancel_id)
            await fleet.control._replica.engine.memory.walked(cancel_id)
            (running,) = (await fleet.control.report(RUN)).still_running
            assert (running.execution_id, running.cause) == ("x", "no_worker")
            assert fleet.worker._listener._mailbox is not None
            fleet.worker._listener._mailbox.post(say_again)
            await wait_until(lambda: ("worker.restored", "w1") in passed, "the worker to speak again")
        await fleet.until_cause("x", "stopping")
        body.go_on.set()
        assert isinstance(await body.end(), broker.ExecutionCancelled)
        await fleet.parts.sweep_now(RUN, cancel_id)
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"stopped": 1})


async def test_t08_a_server_that_kept_everything_is_walked_again_and_nobody_is_told_twice(
    redis_server: RedisServer,
) -> None:
    """A restart from the append-only file cannot be told from a loss: all that is said again changes nothing."""
    async with fleet_of(redis_server) as fleet, observing(redis_server.url) as before:
        body = await fleet.body("x", cleanup).begun()
        cancel_id = (await fleet.control.cancel_run(RUN)).cancel_id
        await wait_until(lambda: "cleanup begins" in body.steps, "the body to hear")
        assert await before.first_attempts() == ["x"]
        await fleet.until_cause("x", "stopping")
        kept = await fleet.parts.reads.execution(RUN, "x")
        with recording() as passed:
            await lose_everything(redis_server)
            async with observing(redis_server.url) as after:
                await fleet.control.report(RUN)
                await fleet.control._replica.engine.memory.walked(cancel_id)
                await wait_until(lambda: ("worker.restored", "w1") in passed, "the worker to speak again")
                assert await after.messages() == []
        assert await fleet.parts.reads.execution(RUN, "x") == kept
        assert (await operation_of(fleet, cancel_id)) is not None
        body.go_on.set()
        await body.end()
        await fleet.parts.sweep_now(RUN, cancel_id)
        report = await fleet.control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"stopped": 1})


# --- without a fleet: what the scripts make of it -----------------------------------------------------------------


def nothing(*_: object) -> None:
    """Nobody is told."""


async def test_t08_the_end_of_a_claim_is_not_said_again_of_what_is_held_again(parts: Parts) -> None:
    """The new server counts claims from 1 again: the end of the first would free the second. Found by the model."""
    held: dict[str, Held] = {}
    restorer = Restorer(parts.claims, HOLDER, "", held, found=nothing, superseded=nothing)
    for one in ("x", "y"):
        restorer.note_end(Held(RUN, one, "", "", nothing, start=1), Outcome("queued", Disposition.ENDED_ITSELF))
    answer = await parts.start(RUN, "x")
    assert (answer.code, answer.start) == ("claimed", 1)
    held["x"] = Held(RUN, "x", "", "", nothing)  # that answer is under way
    with recording() as passed:
        restorer.server_changed()
        await wait_until(lambda: ("worker.restored", "worker-1") in passed, "all to be said again")
    records = await parts.reads.executions(RUN)
    assert {one: (record.claimed, record.status) for one, record in records.items()} == {
        "x": (True, "running"), "y": (False, "queued"),
    }  # fmt: skip


async def test_t08_a_claim_that_is_newer_than_what_was_kept_stands_again(parts: Parts) -> None:
    """Kept: claim 1. Lost: that it was given back, and claim 2."""
    await parts.start(RUN, "x")
    epoch = (await parts.reads.run_state(RUN)).epoch
    newer = Holder("worker-2", 1)
    assert await parts.claims.restore(RUN, newer, "", [Claim("x", "", "", 2)]) == {"x": "restored"}
    assert (await parts.reads.run_state(RUN)).epoch == epoch + 1, "whoever holds claim 1 looks for a newer one"
    assert await parts.claims.restore(RUN, HOLDER, "", [Claim("x", "", "", 1)]) == {"x": "superseded"}
    assert await parts.finish(RUN, "x", status="done", disposition="ended_itself") == "late"
    assert await parts.finish(RUN, "x", start=2, status="done", disposition="ended_itself", holder=newer) == "ended"


async def test_t08_an_end_that_meets_the_gate_before_its_walk_is_what_its_holder_says(parts: Parts) -> None:
    """What was lost is the intent for which it stopped; a cancel of now finds an end that was none of it."""
    claims = [Claim("x", "", "", 1), Claim("y", "", "", 1)]
    await parts.claims.restore(RUN, HOLDER, "", claims)
    asserted = Asserted(await parts.operations.now_us(), 15_000_000)
    await parts.operations.assert_again(RUN, "c_1", CancelTerms(Scope.RUN), asserted)
    assert await parts.finish(RUN, "x") == "settled"
    assert await parts.finish(RUN, "y", status="failed", disposition="ended_itself") == "settled"
    acks = await parts.reads.acks(RUN)
    assert {one: (ack.disposition, ack.outcome) for one, ack in acks.items()} == {
        "x": ("stopped", "cancelled"), "y": ("ended_itself", "failed"),
    }  # fmt: skip
