"""A shield puts a cancel off for a stated time, a refusal for good; the report says which, and force breaks both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import broker
from tests.support.fleet import RUN, Body, Fleet, open_fleet
from tests.support.points import PATIENCE_S
from tests.support.threads import ThreadBody
from tests.support.wait import wait_until

LONG_S = 600.0
REASON = "the ledger is half written"


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with open_fleet(redis_url) as fleet:
        yield fleet


async def for_ever() -> None:
    await asyncio.Event().wait()


async def straggler(fleet: Fleet) -> broker.ExecutionReport:
    (only,) = (await fleet.control.report(RUN)).still_running
    return only


async def tell_again(fleet: Fleet, execution_id: str = "x") -> None:
    """Returns when the repeat is answered for: what the worker said last stands in Redis."""
    before = await fleet.parts.ack_of(RUN, execution_id)
    assert before is not None
    operation = await fleet.parts.only_operation(RUN)
    assert await fleet.parts.operations.redeliver(RUN, operation, [execution_id]) == 1

    async def answered() -> bool:
        ack = await fleet.parts.ack_of(RUN, execution_id)
        return ack is not None and ack.seq > before.seq

    await wait_until(answered, "the repeat to be answered")


async def shielded(body: Body) -> None:
    """Inside a shield until `go_on`, then at an await outside of it."""
    with body.execution.shield(LONG_S):
        body.steps.append("shielded")
        await body.go_on.wait()
        body.steps.append(f"requested: {body.execution.cancel_requested}, cause: {body.execution.cause}")
    await for_ever()


# --- shields --------------------------------------------------------------------------------------------


async def test_t31_a_shield_defers_and_the_report_says_until_when(fleet: Fleet) -> None:
    body = await fleet.body("x", shielded).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    found = await straggler(fleet)
    assert found.disposition == "deferred"
    assert found.detail is not None
    limit = float(found.detail.removeprefix("shielded for at most ").removesuffix(" s more"))
    assert 0 < limit <= LONG_S
    body.go_on.set()
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert body.steps == ["first line", "shielded", "requested: False, cause: None"]
    assert body.task.cancelling() == 0
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_what_was_deferred_is_stopping_once_it_is_delivered(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        try:
            await shielded(body)
        finally:
            await cleanup.wait()

    cleanup = asyncio.Event()
    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    body.go_on.set()
    await fleet.until_cause("x", "stopping")
    cleanup.set()
    assert isinstance(await body.end(), broker.ExecutionCancelled)


async def test_a_repeat_changes_nothing_of_what_is_deferred(fleet: Fleet) -> None:
    body = await fleet.body("x", shielded).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    detail = (await straggler(fleet)).detail
    await tell_again(fleet)
    assert (await straggler(fleet)).cause == "deferred"
    assert (await straggler(fleet)).detail == detail
    body.go_on.set()
    assert isinstance(await body.end(), broker.ExecutionCancelled)


async def test_a_shield_that_runs_out_is_broken_from_inside(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        with body.execution.shield(0.3):
            try:
                await for_ever()
            except asyncio.CancelledError:
                body.steps.append(f"inside, requested: {body.execution.cancel_requested}")
                raise

    body = await fleet.body("x", work).begun()
    report = await fleet.control.cancel_run(RUN, wait=PATIENCE_S)
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert body.steps == ["first line", "inside, requested: True"]
    assert body.task.cancelling() == 0
    assert report.dispositions == {"stopped": 1}


async def test_a_shield_that_outlives_the_deadline_is_overdue_and_then_over(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        with body.execution.shield(1.5):
            await for_ever()

    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN, deadline=0.0)
    await fleet.until_cause("x", "deferred")
    report = await fleet.control.report(RUN)
    assert (report.overdue, report.still_running[0].overdue) == (True, True)
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_of_nested_shields_the_longest_counts(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        with body.execution.shield(LONG_S):
            with body.execution.shield(0.001):
                await body.go_on.wait()
            body.steps.append("still shielded")
            await outer.wait()
            body.steps.append("to the end")
        await for_ever()

    outer = asyncio.Event()
    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    body.go_on.set()
    await wait_until(lambda: "still shielded" in body.steps, "the inner shield to be left")
    assert await fleet.cause_of("x") == "deferred"
    outer.set()
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert body.steps == ["first line", "still shielded", "to the end"]


async def test_a_longer_shield_behind_the_first_is_said_again(fleet: Fleet) -> None:
    """Nothing is awaited between the two, so the cancel finds no gap."""

    async def work(body: Body) -> None:
        with body.execution.shield(LONG_S):
            await body.go_on.wait()
        with body.execution.shield(10 * LONG_S):
            await second.wait()
        await for_ever()

    second = asyncio.Event()
    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    first = (await straggler(fleet)).detail
    body.go_on.set()

    async def said_again() -> bool:
        return (await straggler(fleet)).detail != first

    await wait_until(said_again, "the longer limit to be reported")
    assert await fleet.cause_of("x") == "deferred"
    second.set()
    assert isinstance(await body.end(), broker.ExecutionCancelled)


async def test_a_body_that_ends_inside_its_shield_ended_by_itself(fleet: Fleet) -> None:
    async def work(body: Body) -> str:
        with body.execution.shield(LONG_S):
            await body.go_on.wait()
            return "committed"

    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    body.go_on.set()
    assert await body.task == "committed"
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("ended_itself", "succeeded")


@pytest.mark.parametrize("at_most", [0.0, -1.0, float("inf"), float("nan")])
async def test_a_shield_has_a_limit(fleet: Fleet, at_most: float) -> None:
    async with fleet.worker.execution(RUN, "x") as execution:
        with pytest.raises(broker.InvalidInput, match="at_most"), execution.shield(at_most):
            pytest.fail("entered")


# --- shields in threads -----------------------------------------------------------------------------------


async def test_a_thread_is_shielded_too(fleet: Fleet) -> None:
    def work(body: ThreadBody) -> None:
        with body.execution.shield(LONG_S):
            assert body.go_on.wait(PATIENCE_S)
            body.steps.append(f"{body.execution.cancel_requested} {body.execution.cause} {body.execution.wait(0.0)}")
            body.execution.raise_if_cancelled()
        assert body.execution.wait(PATIENCE_S)
        body.execution.raise_if_cancelled()

    body = await ThreadBody(fleet.worker, "x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    body.go_on.set()
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert body.steps == ["False None False"]
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_a_threads_shield_runs_out(fleet: Fleet) -> None:
    def work(body: ThreadBody) -> None:
        with body.execution.shield(0.3):
            assert body.execution.wait(PATIENCE_S)
            body.steps.append("inside")

    body = await ThreadBody(fleet.worker, "x", work).begun()
    report = await fleet.control.cancel_run(RUN, wait=PATIENCE_S)
    assert await body.end() is None
    assert body.steps == ["inside"]
    assert report.dispositions == {"stopped": 1}


# --- refusals ---------------------------------------------------------------------------------------------


async def test_what_refuses_beforehand_is_not_cancelled(fleet: Fleet) -> None:
    async def work(body: Body) -> str:
        body.execution.refuse(REASON)
        refused.set()
        await body.go_on.wait()
        return "its own result"

    refused = asyncio.Event()
    body = await fleet.body("x", work).begun()
    await refused.wait()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "refused")
    found = await straggler(fleet)
    assert (found.disposition, found.detail) == ("refused", REASON)
    await tell_again(fleet)
    found = await straggler(fleet)
    assert (found.cause, found.detail) == ("refused", REASON)
    body.go_on.set()
    assert await body.task == "its own result"
    assert body.task.cancelling() == 0
    assert (await fleet.settled_ack("x")).disposition == "ended_itself"


async def test_what_refuses_afterwards_is_a_straggler_too(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            body.execution.refuse(REASON)
        await body.go_on.wait()

    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "refused")
    assert (await straggler(fleet)).detail == REASON
    body.go_on.set()
    assert await body.end() is None
    assert (await fleet.settled_ack("x")).disposition == "ended_itself"


async def test_another_reason_replaces_the_first(fleet: Fleet) -> None:
    body = await fleet.body("x").begun()
    body.execution.refuse(REASON)
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "refused")
    body.execution.refuse("now the index")

    async def replaced() -> bool:
        return (await straggler(fleet)).detail == "now the index"

    await wait_until(replaced, "the second reason")
    body.go_on.set()
    assert await body.end() is None


async def test_a_thread_refuses(fleet: Fleet) -> None:
    def work(body: ThreadBody) -> None:
        body.execution.refuse(REASON)
        body.steps.append("refused")
        assert body.go_on.wait(PATIENCE_S)

    body = await ThreadBody(fleet.worker, "x", work).begun()
    await wait_until(lambda: body.steps == ["refused"], "the thread to refuse")
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "refused")
    assert (await straggler(fleet)).detail == REASON
    body.go_on.set()
    assert await body.end() is None
    assert (await fleet.settled_ack("x")).disposition == "ended_itself"


async def test_a_refusal_holds_a_barrier_for_its_levels_time_only(fleet: Fleet) -> None:
    tree = [broker.Execution("root"), broker.Execution("x", parent_execution_id="root")]
    await fleet.control.register(RUN, tree)
    root, child = await fleet.body("root").begun(), await fleet.body("x").begun()
    child.execution.refuse(REASON)
    await fleet.control.cancel_run(RUN, order="bottom_up_barrier", deadline=3.0)
    await fleet.until_cause("x", "refused")
    assert isinstance(await root.end(), broker.ExecutionCancelled)
    report = await fleet.control.report(RUN)
    assert not report.overdue
    assert [(one.execution_id, one.cause) for one in report.still_running] == [("x", "refused")]
    child.go_on.set()
    assert await child.end() is None
