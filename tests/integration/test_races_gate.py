"""Races at the gate: whatever is registered, started or ended while a cancel closes it is told or refused, once.

A held point stands for the moment of the race; nothing here waits for time to pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise

import pytest

import broker
from broker import Execution
from broker.store.claims import Holder
from tests.support.observer import Observer, assert_each_once
from tests.support.parts import HOLDER, Parts
from tests.support.points import holding

RUN = "run-1"
both_scopes = pytest.mark.parametrize("scope", ["run", "subtree"])
AFTER_THE_GATE = ["cancel.gated", "cancel.walking", "cancel.loaded", "cancel.chunk", "cancel.published"]


async def cancel(b: broker.Broker, scope: str, **options: float) -> broker.CancelReport:
    if scope == "run":
        return await b.cancel_run(RUN, wait=options.get("wait"))
    return await b.cancel_subtree("root", wait=options.get("wait"))


def cancelling(b: broker.Broker, scope: str) -> asyncio.Task[broker.CancelReport]:
    return asyncio.create_task(cancel(b, scope))


async def register(b: broker.Broker, *executions: Execution) -> dict[str, str]:
    """Registers; answers what was refused."""
    return dict((await b.register(RUN, executions)).refused)


async def root_with_worker(b: broker.Broker, parts: Parts) -> None:
    """`root` runs and is held; beside it `other`, which no subtree cancel of root concerns."""
    await register(b, Execution("root"), Execution("other", status="running"))
    assert (await parts.start(RUN, "root")).code == "claimed"


def causes(report: broker.CancelReport) -> dict[str, str]:
    return {one.execution_id: str(one.cause) for one in report.still_running}


def nodes(report: broker.CancelReport) -> dict[str, tuple[str, str | None]]:
    return {node.execution_id: (node.status, node.skip_reason) for node in report.nodes}


async def dispositions(parts: Parts, execution_ids: Iterable[str]) -> dict[str, str]:
    acks = await parts.reads.acks(RUN)
    return {one: acks[one].disposition if one in acks else "asked" for one in execution_ids}


# --- spawn: before, during and after the gate -------------------------------------------------------------------


@both_scopes
async def test_what_is_spawned_before_the_gate_is_told(
    scope: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """The last moment: the operation is listed, and its gate is open."""
    await root_with_worker(b, parts)
    with holding("cancel.listed") as held:
        task = cancelling(b, scope)
        await held.arrived()
        assert await register(b, Execution("child", parent_execution_id="root")) == {}
        assert (await parts.start(RUN, "child")).code == "claimed"
    report = await task
    told = await observer.first_attempts()
    assert told.index("child") < told.index("root")
    assert {"child", "root"} <= set(causes(report))
    assert ("other" in told) is (scope == "run")


@both_scopes
@pytest.mark.parametrize("point", AFTER_THE_GATE)
async def test_t15_a_child_registered_under_the_closed_gate_never_starts(
    scope: str, point: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await root_with_worker(b, parts)
    with holding(point) as held:
        task = cancelling(b, scope)
        await held.arrived()
        assert await register(b, Execution("child", parent_execution_id="root")) == {"child": "run_cancelled"}
        assert await parts.status(RUN, "child") == "cancelled"
        assert await dispositions(parts, ["child"]) == {"child": "never_started"}
        answer = await parts.start(RUN, "child")
        assert (answer.code, answer.start) == ("cancelled", 0)
    report = await task
    assert answer.word == report.cancel_id
    assert "child" not in causes(report)
    assert "child" not in await observer.first_attempts()


@both_scopes
@pytest.mark.parametrize("point", ["cancel.gated", "cancel.loaded", "cancel.handed_over"])
async def test_t15_what_was_registered_before_does_not_start_under_the_closed_gate(
    scope: str, point: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """No intent is written yet: the gate alone stands against the start."""
    await root_with_worker(b, parts)
    await register(b, Execution("child", parent_execution_id="root", status="queued"))
    with holding(point) as held:
        task = cancelling(b, scope)
        await held.arrived()
        assert (await parts.start(RUN, "child")).code == "cancelled"
        assert await dispositions(parts, ["child"]) == {"child": "never_started"}
    report = await task
    assert nodes(report)["child"] == ("cancelled", None)
    assert "root" in await observer.first_attempts()
    assert "child" not in causes(report)


@both_scopes
async def test_a_start_that_registers_meets_the_gate_too(scope: str, b: broker.Broker, parts: Parts) -> None:
    """A spawn that was never registered: the start itself makes its record, and finds the gate over its parent."""
    await root_with_worker(b, parts)
    await cancel(b, scope)
    assert (await parts.start(RUN, "child", parent="root")).code == "cancelled"
    assert await parts.status(RUN, "child") == "cancelled"
    assert (await parts.start(RUN, "grandchild", parent="child")).code == "cancelled"
    beside = await parts.start(RUN, "cousin", parent="other")
    assert beside.code == ("cancelled" if scope == "run" else "claimed")


@both_scopes
@pytest.mark.parametrize("point", AFTER_THE_GATE)
async def test_what_is_said_to_run_already_is_told_at_the_gate(
    scope: str, point: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await root_with_worker(b, parts)
    child = Execution("child", parent_execution_id="root", status="running")
    with holding(point) as held:
        task = cancelling(b, scope)
        await held.arrived()
        assert await register(b, child) == {"child": "run_cancelled"}
        (message,) = [one for one in await observer.messages() if one.execution_id == "child"]
        assert (message.source, message.attempt, message.start) == ("gate", 1, 0)
        assert (await parts.intent(RUN, "child")) is not None
    report = await task
    assert (await observer.first_attempts()).count("child") == 1
    assert causes(report)["child"] == "no_worker"
    assert message.cancel_id == report.cancel_id
    assert await parts.finish(RUN, "root") == "settled"
    assert not (await b.report(RUN, report.cancel_id)).settled


@both_scopes
async def test_a_running_child_registered_late_reopens_a_settled_cancel(
    scope: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register(b, Execution("root"))
    report = await cancel(b, scope)
    assert report.settled
    epoch = (await parts.reads.run_state(RUN)).epoch
    await register(b, Execution("child", parent_execution_id="root", status="running"))
    again = await b.report(RUN)
    assert (again.state, causes(again)) == ("open", {"child": "no_worker"})
    assert await parts.operations.due_at(RUN, report.cancel_id) == 0
    assert (await parts.reads.run_state(RUN)).epoch > epoch
    assert [m.execution_id for m in await observer.messages() if m.source == "gate"] == ["child"]
    assert (await parts.claims.report_status(RUN, "child", "failed")) == "settled"
    settled = await b.report(RUN)
    assert (settled.state, settled.dispositions) == ("settled", {"never_started": 1, "ended_itself": 1})


async def test_every_operation_that_covers_it_is_reopened(b: broker.Broker, parts: Parts) -> None:
    await register(b, Execution("root"), Execution("mid", parent_execution_id="root"))
    reports = [await b.cancel_subtree("mid"), await b.cancel_subtree("root"), await b.cancel_run(RUN)]
    assert [report.state for report in reports] == ["settled"] * 3
    await register(b, Execution("leaf", parent_execution_id="mid", status="running"))
    assert [(await b.report(RUN, report.cancel_id)).state for report in reports] == ["open"] * 3
    assert len({(await parts.operations.due_at(RUN, report.cancel_id)) for report in reports} - {0}) == 0


async def test_a_spawn_below_an_ended_member_of_a_cancelled_subtree_meets_the_gate(
    b: broker.Broker, parts: Parts
) -> None:
    """The climb: the parent has ended and was never told, its own record says nothing of the cancel."""
    await register(b, Execution("root", status="running"), Execution("mid", parent_execution_id="root", status="done"))
    await b.cancel_subtree("root")
    assert await parts.intent(RUN, "mid") is None
    assert (await parts.start(RUN, "leaf", parent="mid")).code == "cancelled"
    assert await register(b, Execution("leaf-2", parent_execution_id="mid")) == {"leaf-2": "run_cancelled"}


async def test_beyond_a_thousand_levels_a_subtree_gate_refuses(b: broker.Broker, parts: Parts) -> None:
    chain = [Execution("e0")]
    chain += [Execution(f"e{n}", parent_execution_id=f"e{n - 1}") for n in range(1, 1002)]
    assert await register(b, *chain) == {}
    await b.cancel_subtree("e1")
    assert await register(b, Execution("low", parent_execution_id="e900")) == {"low": "run_cancelled"}
    assert await register(b, Execution("deep", parent_execution_id="e1001")) == {"deep": "too_deep"}
    assert (await parts.start(RUN, "deep", parent="e1001")).code == "too_deep"
    assert await parts.reads.execution(RUN, "deep") is None


# --- late parents ------------------------------------------------------------------------------------------------


async def stranger_and_planner(b: broker.Broker, parts: Parts) -> None:
    """`leaf` runs, and nobody knows yet that it belongs below `planner`."""
    await register(b, Execution("planner"), Execution("leaf"))
    assert (await parts.start(RUN, "leaf")).code == "claimed"


async def test_t15_a_parent_learned_late_reopens_the_subtree_and_it_is_walked_again(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await stranger_and_planner(b, parts)
    report = await b.cancel_subtree("planner")
    assert report.settled
    assert await register(b, Execution("leaf", parent_execution_id="planner")) == {}
    again = await b.report(RUN)
    assert (again.state, causes(again)) == ("open", {"leaf": "no_ack"})
    assert await parts.operations.due_at(RUN, report.cancel_id) == 0
    assert await parts.operations.settle(RUN, report.cancel_id) == "open"
    await parts.sweep.once()
    assert await observer.first_attempts() == ["planner", "leaf"]
    assert await parts.finish(RUN, "leaf") == "settled"
    assert (await b.report(RUN)).settled


async def test_t15_a_start_that_names_the_parent_late_is_refused_and_reopens(b: broker.Broker, parts: Parts) -> None:
    await register(b, Execution("planner"), Execution("leaf"), Execution("other"))
    report = await b.cancel_subtree("planner")
    assert (await parts.start(RUN, "leaf", parent="planner")).code == "cancelled"
    assert (await b.report(RUN)).state == "open"
    assert await parts.backend.commands.command("PTTL", parts.backend.run(RUN).open_cancels) > 0, "made, with an end"
    assert await parts.operations.due_at(RUN, report.cancel_id) == 0
    await parts.sweep.once()
    settled = await b.report(RUN)
    assert (settled.state, settled.dispositions) == ("settled", {"never_started": 2})


@pytest.mark.parametrize("links", [["mid", "planner"], ["mid", "upper", "planner"]])
async def test_t15_a_record_that_children_waited_for_makes_the_subtree_dirty(
    links: list[str], b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """The child names a parent that is not registered yet; so may that parent, when it comes."""
    await register(b, Execution("planner"), Execution("leaf", parent_execution_id=links[0]))
    assert (await parts.start(RUN, "leaf")).code == "claimed"
    report = await b.cancel_subtree("planner")
    assert report.settled
    for child, parent in pairwise(links):
        assert (await b.report(RUN)).settled
        await register(b, Execution(child, parent_execution_id=parent))
    assert (await b.report(RUN)).state == "open"
    assert await parts.operations.due_at(RUN, report.cancel_id) == 0
    await parts.sweep.once()
    assert (await observer.first_attempts()).count("leaf") == 1
    assert await parts.finish(RUN, "leaf") == "settled"
    assert (await b.report(RUN)).settled


@pytest.mark.parametrize("point", AFTER_THE_GATE)
async def test_t15_a_parent_learned_during_the_walk_is_walked_before_it_ends(
    point: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await stranger_and_planner(b, parts)
    with holding(point) as held:
        task = asyncio.create_task(b.cancel_subtree("planner"))
        await held.arrived()
        await register(b, Execution("leaf", parent_execution_id="planner"))
    report = await task
    assert causes(report) == {"leaf": "no_ack"}
    assert_each_once(await observer.first_attempts(), ["planner", "leaf"])
    assert (await parts.operation(RUN, report.cancel_id)).phase == "published"
    assert await parts.finish(RUN, "leaf") == "settled"
    assert (await b.report(RUN)).settled


async def test_a_level_is_not_told_while_the_tree_is_dirty(b: broker.Broker, parts: Parts, observer: Observer) -> None:
    """Learned between load and publish: nothing is told from the old picture, so the order is the new one's."""
    await stranger_and_planner(b, parts)
    with holding("cancel.loaded") as held:
        task = asyncio.create_task(b.cancel_subtree("planner"))
        await held.arrived()
        await register(b, Execution("leaf", parent_execution_id="planner"))
    await task
    assert await observer.first_attempts() == ["leaf", "planner"]


async def test_what_comes_while_a_subtree_is_about_to_settle_keeps_it_open(b: broker.Broker, parts: Parts) -> None:
    """Nothing was unsettled when it was read; the script refuses because its counter `v` has risen since."""
    await register(b, Execution("planner"))
    with holding("cancel.settling") as held:
        task = asyncio.create_task(b.cancel_subtree("planner"))
        await held.arrived()
        await register(b, Execution("leaf", parent_execution_id="planner", status="running"))
    assert (await task).state == "open"
    operation = await parts.only_operation(RUN)
    assert await parts.operations.settle(RUN, operation.cancel_id, "0") == "changed"
    assert causes(await b.report(RUN)) == {"leaf": "no_worker"}


@pytest.mark.parametrize("by_sweep", [False, True])
async def test_reopened_while_it_is_put_aside_it_is_still_due_at_once(
    by_sweep: bool, b: broker.Broker, parts: Parts
) -> None:
    """A settled one gets a late due time; one that was reopened just before must not lie there for an hour."""
    await stranger_and_planner(b, parts)
    report = await b.cancel_subtree("planner") if by_sweep else None
    with holding("cancel.leaving") as held:
        leaving = parts.sweep_now(RUN, report.cancel_id) if report else b.cancel_subtree("planner")
        task = asyncio.ensure_future(leaving)
        await held.arrived()
        await register(b, Execution("leaf", parent_execution_id="planner"))
    await task
    operation = await parts.only_operation(RUN)
    assert await parts.operations.due_at(RUN, operation.cancel_id) == 0
    await parts.sweep.once()
    assert await parts.intent(RUN, "leaf") is not None


# --- ends under the gate ----------------------------------------------------------------------------------------


@both_scopes
@pytest.mark.parametrize("status", ["failed", "cancelled", "timeout", "queued"])
async def test_t37_a_parent_that_fails_because_its_child_was_cancelled_did_not_fail(
    scope: str, status: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await root_with_worker(b, parts)
    with holding("cancel.gated") as held:
        task = cancelling(b, scope)
        await held.arrived()
        assert await parts.finish(RUN, "root", status=status, disposition="ended_itself") == "settled"
        assert await parts.intent(RUN, "root") is not None
    report = await task
    assert await parts.status(RUN, "root") == "cancelled"
    ack = await parts.ack_of(RUN, "root")
    assert ack is not None
    assert (ack.disposition, ack.outcome) == ("ended_itself", status)
    assert nodes(report)["root"] == ("cancelled", None)
    assert "root" not in await observer.first_attempts()
    assert (await parts.start(RUN, "root")).code == "cancelled"


@both_scopes
@pytest.mark.parametrize(("point", "answer"), [("cancel.gated", "terminal"), ("cancel.loaded", "raced_to_terminal")])
async def test_t37_a_success_under_the_gate_stays_one(
    scope: str, point: str, answer: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await root_with_worker(b, parts)
    with holding(point) as held:
        task = cancelling(b, scope)
        await held.arrived()
        assert await parts.finish(RUN, "root", status="succeeded", disposition="ended_itself") == "ended"
    report = await task
    assert await parts.status(RUN, "root") == "succeeded"
    assert nodes(report)["root"] == (("succeeded", answer) if answer == "terminal" else ("skipped", answer))
    assert "root" not in await observer.first_attempts()
    assert await parts.intent(RUN, "root") is None


async def test_t13_an_end_before_the_gate_is_what_it_was(b: broker.Broker, parts: Parts) -> None:
    await root_with_worker(b, parts)
    with holding("cancel.listed") as held:
        task = cancelling(b, "run")
        await held.arrived()
        assert await parts.finish(RUN, "root", status="failed", disposition="ended_itself") == "ended"
    assert nodes(await task)["root"] == ("failed", "terminal")


# --- who is told, and who was never started ----------------------------------------------------------------------


@pytest.mark.parametrize("status", ["waiting", "paused", "awaiting_approval"])
async def test_t24_a_waiting_execution_that_was_started_is_told_like_a_running_one(
    status: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await root_with_worker(b, parts)
    assert await parts.claims.report_status(RUN, "root", status) == "changed"
    report = await b.cancel_run(RUN)
    assert causes(report)["root"] in ("no_ack", "not_delivered")
    (message,) = [one for one in await observer.messages() if one.execution_id == "root"]
    assert message.start == 1
    assert await parts.finish(RUN, "root") == "settled"
    assert await dispositions(parts, ["root"]) == {"root": "stopped"}


@pytest.mark.parametrize("status", ["pending", "queued", "waiting", "paused"])
async def test_t24_what_nobody_claimed_is_never_started_at_once(
    status: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register(b, Execution("one", status=status))
    report = await b.cancel_run(RUN)
    assert (report.state, report.dispositions, report.totals.still_running) == ("settled", {"never_started": 1}, 0)
    assert await observer.first_attempts() == ["one"]
    assert report.nodes[0].previous_status == status
    assert (await parts.start(RUN, "one")).code == "cancelled"


@pytest.mark.parametrize("status", ["running", "processing", "what-is-that"])
async def test_what_is_said_to_run_and_nobody_claimed_is_told_and_has_no_worker(
    status: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register(b, Execution("one", status=status))
    report = await b.cancel_run(RUN)
    assert (report.state, causes(report)) == ("open", {"one": "no_worker"})
    assert await observer.first_attempts() == ["one"]


async def test_a_claim_that_was_given_back_counts_as_none(b: broker.Broker, parts: Parts) -> None:
    await root_with_worker(b, parts)
    assert await parts.finish(RUN, "root", status="queued", disposition="ended_itself") == "released"
    assert (await b.cancel_subtree("root")).dispositions == {"never_started": 1}


async def test_a_redelivered_start_leaves_an_open_claim_alone(b: broker.Broker, parts: Parts) -> None:
    """The queue delivers the work again while its body runs, told to stop: that body is not `never_started`."""
    await root_with_worker(b, parts)
    await b.cancel_run(RUN)
    other = Holder("worker-2", 1)
    answer = await parts.start(RUN, "root", holder=other)
    assert (answer.code, answer.start) == ("cancelled", 0)
    assert await dispositions(parts, ["root"]) == {"root": "asked"}
    assert (await parts.start(RUN, "root", holder=HOLDER)).start == 1
    assert await parts.finish(RUN, "root") == "settled"


# --- what others say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", "succeeded", "timeout"])
async def test_a_terminal_status_from_the_control_plane_leaves_the_claim(
    status: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """The record says ended, the body runs: it is told all the same, and counts until its holder ends it."""
    await register(b, Execution("root"))
    await parts.start(RUN, "root")
    assert await parts.claims.report_status(RUN, "root", status) == "changed"
    with holding("cancel.gated") as held:
        task = cancelling(b, "run")
        await held.arrived()
        assert set(causes(await b.report(RUN))) == {"root"}, "to be told, so still running"
    report = await task
    assert nodes(report) == {"root": (status, "terminal")}
    assert await observer.first_attempts() == ["root"]
    assert (report.state, set(causes(report))) == ("open", {"root"})
    assert await parts.status(RUN, "root") == status
    assert await parts.claims.report_status(RUN, "root", "failed") == "kept"
    assert not (await b.report(RUN)).settled
    assert await parts.finish(RUN, "root") == "settled"
    settled = await b.report(RUN)
    assert (settled.state, settled.dispositions) == ("settled", {"stopped": 1})
    assert await parts.status(RUN, "root") == status


async def test_under_the_gate_an_end_that_someone_else_reports_is_kept_beside_the_cancel(
    b: broker.Broker, parts: Parts
) -> None:
    await register(b, Execution("one", status="running"), Execution("two", status="running"))
    with holding("cancel.gated") as held:
        task = cancelling(b, "run")
        await held.arrived()
        assert await parts.claims.report_status(RUN, "one", "failed") == "settled"
    assert causes(await task) == {"two": "no_worker"}
    assert await parts.claims.report_status(RUN, "two", "succeeded") == "settled"
    acks = await parts.reads.acks(RUN)
    assert {one: (acks[one].disposition, acks[one].outcome) for one in acks} == {
        "one": ("ended_itself", "failed"),
        "two": ("ended_itself", "succeeded"),
    }
    assert (await b.report(RUN)).settled


async def test_an_unknown_execution_that_is_reported_meets_the_gate(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register(b, Execution("root"))
    assert await parts.claims.report_status(RUN, "early", "running") == "changed"
    report = await b.cancel_run(RUN)
    assert await parts.claims.report_status(RUN, "late", "running") == "cancelled"
    assert await parts.claims.report_status(RUN, "later", "queued") == "cancelled"
    assert await parts.claims.report_status(RUN, "ended", "failed") == "settled"
    assert set(causes(await b.report(RUN, report.cancel_id))) == {"early", "late"}
    assert await dispositions(parts, ["later", "ended"]) == {"later": "never_started", "ended": "ended_itself"}
    assert set(await observer.first_attempts()) == {"root", "early", "late"}


async def test_a_start_that_is_seen_after_never_started_reopens(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register(b, Execution("root"), Execution("leaf", parent_execution_id="root"))
    narrow = await b.cancel_execution("leaf")
    wide = await b.cancel_run(RUN)
    assert (narrow.state, wide.state) == ("settled", "settled")
    assert await parts.claims.report_status(RUN, "leaf", "running") == "reopened"
    for report in (narrow, wide):
        again = await b.report(RUN, report.cancel_id)
        assert (again.state, causes(again)) == ("open", {"leaf": "no_worker"})
        assert await parts.operations.due_at(RUN, report.cancel_id) == 0
    told = [(one.attempt, one.cancel_id) for one in await observer.messages() if one.execution_id == "leaf"]
    assert told == [(1, narrow.cancel_id), (2, narrow.cancel_id)]


async def test_under_a_gate_that_outlived_its_operation_what_runs_is_still_told(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """A run's keys end before its gates: nobody knows the operation any more, and the gate stands."""
    await register(b, Execution("root"))
    report = await b.cancel_run(RUN)
    keys = parts.backend.run(RUN)
    await parts.backend.commands.command("DEL", *(key for key in keys if key != keys.gates))
    late = [Execution("late", status="running"), Execution("later")]
    assert await register(b, *late) == {"late": "run_cancelled", "later": "run_cancelled"}
    (message,) = [one for one in await observer.messages() if one.execution_id == "late"]
    assert (message.cancel_id, message.source, message.reason) == (report.cancel_id, "gate", None)
    assert await parts.reads.unsettled(RUN) == ["late"]
    assert await dispositions(parts, ["later"]) == {"later": "never_started"}
