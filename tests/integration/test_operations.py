"""Cancel operations: repeats, several at once, order, what they say; and any replica can finish any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
import redis

import broker
from broker import Execution
from broker.errors import StoreRefused
from broker.protocol.records import OperationRecord
from broker.protocol.states import Scope
from broker.store.operations import CancelTerms, Operations
from tests.support.driving import ORDERS, PARENTS, RUN, TREE, causes, drive_and_die, register_tree, work_list
from tests.support.observer import Observer, assert_children_first, assert_each_once
from tests.support.parts import Parts
from tests.support.points import PATIENCE_S, Died, doing, dying, holding
from tests.support.wait import wait_until

both_orders = pytest.mark.parametrize("order", ORDERS)
SECOND_US = 1_000_000


def nodes(report: broker.CancelReport) -> dict[str, tuple[str, str | None]]:
    return {node.execution_id: (node.status, node.skip_reason) for node in report.nodes}


def everything(url: str) -> dict[str, Any]:
    """All keys with what they hold."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return {key: client.dump(key) for key in sorted(client.scan_iter())}


@pytest.fixture
def one_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each execution is a chunk, and none is published before the one before it is."""
    monkeypatch.setattr("broker.cancel.publish.CHUNK", 1)
    monkeypatch.setattr("broker.cancel.publish.AT_A_TIME", 1)


# --- several at once ---------------------------------------------------------------------------------------------


async def test_t21_cancels_of_one_run_at_once_are_one_operation(
    redis_url: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b, "running")
    async with broker.connect(redis_url, sweep=False) as other:
        reports = await asyncio.gather(*(one.cancel_run(RUN) for one in (b, other) * 4))
    assert len({report.cancel_id for report in reports}) == 1
    assert len({report.deadline_at for report in reports}) == 1
    assert_each_once(await observer.first_attempts(), TREE)
    assert list(await work_list(parts)) == [reports[0].cancel_id]


@pytest.mark.parametrize("point", ["cancel.gated", "cancel.loaded"])
@pytest.mark.parametrize("run_first", [True, False])
async def test_t21_run_and_subtree_at_once_compose(
    point: str, run_first: bool, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """The first stands still, the second passes it; what the second has told the first adopts."""
    await register_tree(b, "running")
    with holding(point) as held:
        first = asyncio.create_task(b.cancel_run(RUN) if run_first else b.cancel_subtree("mid"))
        await held.arrived()
        second = await (b.cancel_subtree("mid") if run_first else b.cancel_run(RUN))
    slow = await first
    run_report, subtree_report = (slow, second) if run_first else (second, slow)
    assert run_report.cancel_id != subtree_report.cancel_id
    told = await observer.first_attempts()
    assert_each_once(told, TREE)
    owners = {one: intent.cancel_id for one, intent in (await parts.reads.intents(RUN)).items()}
    below = {"mid", "leaf", "leaf-2"}
    first_to_tell = subtree_report.cancel_id if run_first else run_report.cancel_id
    assert owners == {one: first_to_tell if one in below else run_report.cancel_id for one in TREE}
    assert set(causes(subtree_report)) == below
    assert set(causes(run_report)) == set(TREE)
    for one in below:
        await parts.claims.report_status(RUN, one, "failed")
    await parts.sweep_now(RUN, subtree_report.cancel_id)
    assert (await b.report(RUN, subtree_report.cancel_id)).settled, "a stranger's stragglers do not keep it open"
    assert not (await b.report(RUN, run_report.cancel_id)).settled


async def test_a_wider_cancel_adopts_what_a_narrow_one_has_told(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b)
    await parts.start(RUN, "leaf")
    narrow = await b.cancel_execution("leaf")
    assert (narrow.state, narrow.totals.executions, narrow.remaining_active_in_run) == ("open", 1, 4)
    wide = await b.cancel_run(RUN)
    assert_each_once(await observer.first_attempts(), TREE)
    assert nodes(wide)["leaf"] == ("cancelled", "terminal")
    intent = await parts.intent(RUN, "leaf")
    assert intent is not None
    assert intent.cancel_id == narrow.cancel_id
    assert wide.state == "open", "the adopted one is in its scope"
    assert await parts.finish(RUN, "leaf") == "settled"
    assert (await b.report(RUN, narrow.cancel_id)).settled
    assert (await b.report(RUN)).cancel_id == wide.cancel_id
    assert (await b.report(RUN)).settled


async def test_a_narrow_cancel_does_not_wait_for_strangers(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b, "running")
    await parts.start(RUN, "leaf")
    first, second = await b.cancel_execution("side"), await b.cancel_execution("leaf")
    assert (first.state, second.state) == ("open", "open")
    assert await parts.finish(RUN, "leaf") == "settled"
    assert (await b.report(RUN, second.cancel_id)).settled
    assert not (await b.report(RUN, first.cancel_id)).settled


# --- repeats, and what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("settled", [True, False])
async def test_t21_a_repeat_is_the_same_operation_with_the_same_deadline(
    settled: bool, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b, "pending" if settled else "running")
    first = await b.cancel_run(RUN, reason="first", deadline=10)
    again = await b.cancel_run(RUN, reason="second", deadline=99)
    assert (again.cancel_id, again.deadline_at, again.reason) == (first.cancel_id, first.deadline_at, "first")
    assert first.settled is settled
    assert set(nodes(first).values()) == {("cancelled", None)}
    assert set(nodes(again).values()) == {("cancelled", "terminal")}
    assert [node.execution_id for node in again.nodes] == [node.execution_id for node in first.nodes]
    assert_each_once(await observer.first_attempts(), TREE)
    assert len(await work_list(parts)) == 1


async def test_a_cancel_whose_answer_was_lost_is_still_ours_to_drive(b: broker.Broker, parts: Parts) -> None:
    """A connection that broke in mid-flight sends the script again: what it finds there is not a repeat."""
    await register_tree(b)
    terms = CancelTerms(Scope.RUN)
    listed = await parts.operations.enlist(RUN, "c_1")
    first = await parts.operations.open(RUN, "c_1", terms, listed)
    again = await parts.operations.open(RUN, "c_1", terms, listed)
    assert (first.repeated, again.repeated) == (False, False)
    assert (await parts.operations.open(RUN, "c_2", terms, listed)).repeated
    assert list(await work_list(parts)) == ["c_1"]


async def test_an_idempotency_key_belongs_to_one_cancel(b: broker.Broker) -> None:
    await register_tree(b)
    first = await b.cancel_subtree("leaf", idempotency_key="k1")
    again = await b.cancel_subtree("leaf", idempotency_key="k1")
    other_key = await b.cancel_subtree("leaf", idempotency_key="k2")
    assert first.cancel_id == again.cancel_id == other_key.cancel_id
    with pytest.raises(broker.IdempotencyKeyReused, match=first.cancel_id):
        await b.cancel_run(RUN, idempotency_key="k1")
    with pytest.raises(broker.IdempotencyKeyReused):
        await b.cancel_subtree("side", idempotency_key="k2")
    assert (await b.preview(RUN)).would_cancel == 4, "refused is refused"


async def test_t36_a_narrow_cancel_says_what_it_leaves(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b, "paused")
    await parts.claims.report_status(RUN, "side", "done")
    report = await b.cancel_execution("mid")
    assert (report.scope, report.remaining_active_in_run, report.state) == ("execution", 3, "settled")
    assert await parts.status(RUN, "leaf") == "paused"
    assert (await b.cancel_run(RUN)).remaining_active_in_run == 0


async def test_a_narrow_cancel_of_what_is_unknown_or_has_ended_is_refused(b: broker.Broker, parts: Parts) -> None:
    await b.register(RUN, [Execution("ended", status="Done"), Execution("covered"), Execution("free")])
    before = await work_list(parts)
    with pytest.raises(broker.NotFound, match="execution nobody not found"):
        await b.cancel_execution("nobody")
    with pytest.raises(broker.AlreadyTerminal) as refused:
        await b.cancel_execution("ended")
    assert refused.value.status == "Done"
    assert await work_list(parts) == before, "nothing was listed for what was refused"
    await b.cancel_execution("free")
    with holding("cancel.gated") as held:
        task = asyncio.create_task(b.cancel_run(RUN))
        await held.arrived()
        with pytest.raises(broker.AlreadyTerminal) as refused:
            await b.cancel_execution("covered")
        assert refused.value.status == "cancelled", "covered, and not decided yet: it reads cancelled"
    await task
    with pytest.raises(broker.AlreadyTerminal):
        await b.cancel_execution("covered")


@pytest.mark.parametrize("scope", ["run", "subtree", "execution"])
async def test_an_unknown_target_is_refused_and_nothing_is_written(
    scope: str, b: broker.Broker, redis_url: str
) -> None:
    calls = {"run": b.cancel_run, "subtree": b.cancel_subtree, "execution": b.cancel_execution}
    with pytest.raises(broker.NotFound, match="nobody not found"):
        await calls[scope]("nobody")
    assert everything(redis_url) == {}


async def test_allow_unknown_closes_the_gate_of_what_comes_later(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    report = await b.cancel_run(RUN, allow_unknown=True)
    assert (report.state, report.totals.executions) == ("settled", 0)
    assert dict((await b.register(RUN, [Execution("late")])).refused) == {"late": "run_cancelled"}
    assert (await parts.start(RUN, "later")).code == "cancelled"
    assert await observer.first_attempts() == []
    alone = await b.cancel_execution("lonely", allow_unknown=True)
    assert (alone.state, alone.run_id) == ("settled", None)
    assert (await parts.start("@lonely", "lonely")).code == "cancelled"


async def test_a_run_in_which_all_has_ended_is_closed_all_the_same(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b, "succeeded")
    report = await b.cancel_run(RUN)
    assert set(nodes(report).values()) == {("succeeded", "terminal")}
    assert (report.state, report.totals.skipped, report.totals.cancelled) == ("settled", 5, 0)
    assert await observer.first_attempts() == []
    assert dict((await b.register(RUN, [Execution("late")])).refused) == {"late": "run_cancelled"}


async def test_a_report_where_nobody_cancelled(b: broker.Broker) -> None:
    with pytest.raises(broker.NotFound, match="run run-1 not found"):
        await b.report(RUN)
    await register_tree(b)
    with pytest.raises(broker.NoCancellation):
        await b.report(RUN)
    with pytest.raises(broker.NoCancellation):
        await b.report(RUN, "c_nobody")


async def test_a_preview_changes_nothing(b: broker.Broker, redis_url: str, observer: Observer) -> None:
    await register_tree(b, "running")
    before = everything(redis_url)
    preview = await b.preview(RUN)
    assert (preview.executions, preview.would_cancel) == (5, 5)
    assert [node.status for node in preview.nodes] == ["running"] * 5
    assert everything(redis_url) == before
    assert await observer.messages() == []
    report = await b.cancel_run(RUN)
    assert [one.execution_id for one in preview.nodes] == [one.execution_id for one in report.nodes]
    with pytest.raises(broker.NotFound):
        await b.preview("nobody")


# --- order -------------------------------------------------------------------------------------------------------


@both_orders
async def test_every_child_is_told_before_its_parent(order: str, b: broker.Broker, observer: Observer) -> None:
    parents = {f"e{n}": f"e{(n - 1) // 3}" for n in range(1, 40)}
    tree = [Execution("e0"), *(Execution(child, parent_execution_id=parent) for child, parent in parents.items())]
    await b.register(RUN, reversed(tree))
    report = await b.cancel_run(RUN, order=order, wait=PATIENCE_S)
    assert report.settled
    told = await observer.first_attempts()
    assert_each_once(told, ["e0", *parents])
    assert_children_first(told, parents)


async def test_the_barrier_tells_a_parent_when_its_child_has_settled(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b)
    for one in ("root", "leaf"):
        await parts.start(RUN, one)
    report = await b.cancel_run(RUN, order="bottom_up_barrier", deadline=600)
    assert sorted(await observer.first_attempts()) == ["leaf", "leaf-2"]
    assert {one.execution_id: one.attempts for one in report.still_running} == {
        "leaf": 1, "mid": 0, "side": 0, "root": 0,
    }  # fmt: skip
    assert await parts.intent(RUN, "root") is None, "the poll keeps the same order"
    assert await parts.ack(RUN, "leaf", "received") == "applied"
    assert sorted(await observer.first_attempts()) == ["leaf", "leaf-2"], "to have heard is not to have stopped"
    with holding("cancel.published") as held:
        assert await parts.finish(RUN, "leaf") == "settled"
        await held.arrived()
        assert_each_once(await observer.first_attempts(), TREE)
        assert_children_first(await observer.first_attempts(), PARENTS)
    assert await parts.finish(RUN, "root") == "settled"
    await wait_until(lambda: _is_settled(b), "the barrier cancel to settle")


async def _is_settled(b: broker.Broker) -> bool:
    return (await b.report(RUN)).settled


async def test_who_remains_is_counted_as_a_gate_has_decided_before_its_walk_comes_by(
    b: broker.Broker, parts: Parts
) -> None:
    """`root` covers all but `loner`, and behind the barrier only `leaf`'s level is told."""
    await register_tree(b)
    await b.register(RUN, [Execution("loner"), Execution("last")])
    await parts.start(RUN, "leaf")
    with holding("cancel.level"):
        await b.cancel_subtree("root", order="bottom_up_barrier")
        assert (await b.cancel_execution("loner")).remaining_active_in_run == 1, "only `last` goes on"


async def test_t18_the_barrier_goes_on_when_a_child_does_not_stop(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b)
    await parts.start(RUN, "leaf")
    with holding("cancel.published") as held:
        report = await b.cancel_run(RUN, order="bottom_up_barrier", deadline=0)
        await held.arrived()
    assert_each_once(await observer.first_attempts(), TREE)
    (straggler,) = (await b.report(RUN)).still_running
    assert (straggler.execution_id, straggler.overdue) == ("leaf", True)
    assert report.cancel_id == (await b.report(RUN)).cancel_id


async def test_waiting_changes_nothing_but_when_the_caller_hears(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    await parts.start(RUN, "leaf")
    report = await b.cancel_run(RUN, wait=0.0)
    assert (report.state, set(causes(report))) == ("open", {"leaf"})
    waiting = asyncio.create_task(b.cancel_run(RUN, wait=PATIENCE_S))
    await parts.ack(RUN, "leaf", "received")
    assert causes(await b.report(RUN)) == {"leaf": "stopping"}
    await parts.finish(RUN, "leaf")
    assert (await waiting).settled


# --- a chunk that Redis refuses ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_a_chunk")
async def test_a_refused_chunk_is_an_error_of_its_nodes_and_is_told_later(
    b: broker.Broker, parts: Parts, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Operations.publish

    async def refuse_mid(self: Operations, run_id: str, operation: OperationRecord, chunk: Sequence[str]) -> Any:
        if "mid" in chunk:
            raise StoreRefused("Redis refused EVALSHA: OOM command not allowed")
        return await publish(self, run_id, operation, chunk)

    await register_tree(b)
    with monkeypatch.context() as patched:
        patched.setattr(Operations, "publish", refuse_mid)
        report = await b.cancel_run(RUN)
    assert nodes(report)["mid"] == ("error", "Redis refused EVALSHA: OOM command not allowed")
    assert {one for one, answer in nodes(report).items() if answer == ("cancelled", None)} == set(TREE) - {"mid"}
    assert (report.totals.errors, report.state, set(causes(report))) == (1, "open", {"mid"})
    await parts.sweep_now(RUN, report.cancel_id)
    assert_each_once(await observer.first_attempts(), TREE)
    assert (await b.report(RUN)).settled


@pytest.mark.parametrize("verb", ["end_walk", "settle", "lease"])
async def test_what_redis_refuses_after_the_telling_takes_nothing_back(
    verb: str, b: broker.Broker, parts: Parts, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is told: the answer says so, and the sweep finishes the rest."""
    await register_tree(b)
    await parts.start(RUN, "leaf")

    async def refuse(*_: object, **__: object) -> None:
        raise StoreRefused("Redis refused EVALSHA: OOM command not allowed")

    with monkeypatch.context() as full:
        full.setattr(Operations, verb, refuse)
        report = await b.cancel_run(RUN)
    assert {node.status for node in report.nodes} == {"cancelled"}
    assert_each_once(await observer.first_attempts(), TREE)
    await parts.finish(RUN, "leaf")
    await parts.expire_lease(RUN, report.cancel_id)
    await parts.sweep_now(RUN, report.cancel_id)
    await parts.sweep_now(RUN, report.cancel_id)
    assert (await b.report(RUN)).settled


# --- any replica can finish it -----------------------------------------------------------------------------------


async def test_a_driver_that_dies_before_the_gate_has_cancelled_nothing(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    cancel_id = await drive_and_die(b, "bottom_up", "cancel.listed")
    assert await parts.reads.operations(RUN) == []
    assert (await b.preview(RUN)).would_cancel == 5
    assert dict((await b.register(RUN, [Execution("late", parent_execution_id="root")])).refused) == {}
    now_us = await parts.operations.now_us()
    await parts.operations.reschedule(RUN, cancel_id, now_us - 55 * SECOND_US)
    await parts.sweep.once()
    assert cancel_id in await work_list(parts), "its gate may be about to close"
    await parts.operations.reschedule(RUN, cancel_id, now_us - 61 * SECOND_US)
    await parts.sweep.once()
    assert await work_list(parts) == {}


async def test_a_gate_closes_only_soon_after_its_entry_was_listed(b: broker.Broker, parts: Parts) -> None:
    """Else the entry might be dropped, and the gate closed with nobody to resume it."""
    await register_tree(b)
    enlist = parts.operations.enlist

    async def long_ago(run_id: str, cancel_id: str) -> str:
        return str(int(await enlist(run_id, cancel_id)) - 31 * SECOND_US)

    object.__setattr__(parts.operations, "enlist", long_ago)
    terms = CancelTerms(Scope.RUN)
    with pytest.raises(broker.BrokerUnavailable, match="30 s"):
        await parts.engine.cancel(RUN, terms)
    assert await parts.reads.operations(RUN) == []
    assert await work_list(parts) == {}


async def test_t29_a_driver_that_comes_back_late_is_fenced(b: broker.Broker, parts: Parts, observer: Observer) -> None:
    """Two drivers at once: the older one notices with its next script, and does nothing any more."""
    await register_tree(b, "running")
    with holding("cancel.loaded") as held:
        task = asyncio.create_task(b.cancel_run(RUN))
        await held.arrived()
        operation = await parts.only_operation(RUN)
        await parts.sweep_now(RUN, operation.cancel_id)
        assert await observer.messages() == [], "its lease stands: nobody else drives it"
        assert (await work_list(parts))[operation.cancel_id] > 1
        await parts.expire_lease(RUN, operation.cancel_id)
        await parts.sweep_now(RUN, operation.cancel_id)
        assert_each_once(await observer.first_attempts(), TREE)
        assert (await parts.operation(RUN, operation.cancel_id)).fence > operation.fence
    assert set(causes(await task)) == set(TREE)
    assert len(await observer.messages()) == len(TREE)
    for code in (
        (await parts.operations.publish(RUN, operation, ["root"]))[0],
        await parts.operations.end_walk(RUN, operation, ""),
    ):
        assert code == "fenced"
    assert await parts.operations.begin_walk(RUN, operation) is None
    assert await parts.operations.redeliver(RUN, operation, ["root"]) == 0


async def test_a_driver_keeps_its_lease_for_as_long_as_it_works(
    b: broker.Broker, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading a large run takes longer than a lease."""
    monkeypatch.setattr("broker.cancel.lease.LEASE_US", 30_000)
    await register_tree(b)
    with holding("cancel.loaded") as held:
        task = asyncio.create_task(b.cancel_run(RUN))
        await held.arrived()
        first = await parts.only_operation(RUN)

        async def renewed() -> bool:
            return (await parts.only_operation(RUN)).lease_until_us > first.lease_until_us

        await wait_until(renewed, "the lease to be renewed")
    assert (await task).settled


async def test_a_broker_that_closes_leaves_its_barrier_to_others(
    redis_url: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b)
    await parts.start(RUN, "leaf")
    async with broker.connect(redis_url, sweep=False) as leaving:
        cancel_id = (await leaving.cancel_run(RUN, order="bottom_up_barrier", deadline=600)).cancel_id
    assert "root" not in await observer.first_attempts()
    await parts.finish(RUN, "leaf")
    await parts.expire_lease(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    assert_each_once(await observer.first_attempts(), TREE)
    assert (await b.report(RUN)).settled


async def test_the_sweep_of_any_broker_takes_over_by_itself(
    redis_url: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b)
    cancel_id = await drive_and_die(b, "bottom_up", "cancel.loaded")
    await parts.expire_lease(RUN, cancel_id)
    await parts.operations.reschedule(RUN, cancel_id, 0)
    async with broker.connect(redis_url, sweep=True) as other:
        await wait_until(lambda: _is_settled(other), "the other broker to finish it")
    assert_each_once(await observer.first_attempts(), TREE)


async def test_a_repeat_of_an_orphan_has_it_looked_at_now(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    cancel_id = await drive_and_die(b, "bottom_up", "cancel.gated")
    assert (await b.cancel_run(RUN)).cancel_id == cancel_id
    assert (await work_list(parts))[cancel_id] == 0


# --- telling again -----------------------------------------------------------------------------------------------


@pytest.fixture
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.cancel.schedule.told_for_us", lambda attempt: 0)


@pytest.mark.usefixtures("always_due")
async def test_what_is_not_settled_is_told_again_under_the_same_cancel_id(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await b.register(RUN, [Execution("done"), Execution("deaf")])
    for one in ("done", "deaf"):
        await parts.start(RUN, one)
    report = await b.cancel_run(RUN)
    await parts.finish(RUN, "done")
    for _ in range(2):
        await parts.sweep_now(RUN, report.cancel_id)
    again = [(one.execution_id, one.attempt, one.cancel_id, one.force) for one in await observer.messages()][2:]
    assert again == [("deaf", attempt, report.cancel_id, False) for attempt in (2, 3)]
    assert (await b.report(RUN)).still_running[0].attempts == 3
    operation = await parts.operation(RUN, report.cancel_id)
    assert await parts.operations.redeliver(RUN, operation, ["done"]) == 0, "settled since it was read"


@pytest.mark.usefixtures("always_due")
async def test_a_crowd_that_has_yet_to_answer_is_not_told_again_until_it_has_thinned(
    b: broker.Broker, parts: Parts, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.cancel.schedule.AT_ONCE", 2)
    monkeypatch.setattr("broker.cancel.schedule.ANSWER_US", 60 * SECOND_US)
    await register_tree(b, "running")
    report = await b.cancel_run(RUN)
    await parts.sweep_now(RUN, report.cancel_id)
    assert_each_once([one.execution_id for one in await observer.messages()], TREE)
    for one in TREE[:3]:
        assert await parts.claims.report_status(RUN, one, "done") == "settled"
    await parts.sweep_now(RUN, report.cancel_id)
    again = [one.execution_id for one in await observer.messages()][len(TREE) :]
    assert sorted(again) == sorted(TREE[3:])


@pytest.mark.usefixtures("always_due")
async def test_whoever_tells_it_again_it_keeps_the_cancel_id_that_reached_it_first(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await register_tree(b)
    await parts.start(RUN, "leaf")
    narrow = await b.cancel_execution("leaf", reason="the first")
    wide = await b.cancel_run(RUN, reason="the second")
    await parts.sweep_now(RUN, wide.cancel_id)
    told = [one for one in await observer.messages() if one.execution_id == "leaf"]
    assert [(one.attempt, one.cancel_id, one.reason) for one in told] == [
        (1, narrow.cancel_id, "the first"),
        (2, narrow.cancel_id, "the first"),
    ]


@pytest.mark.usefixtures("always_due")
async def test_the_forced_step_comes_once_asked_for_and_stays(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await b.register(RUN, [Execution("deaf", status="running")])
    report = await b.cancel_run(RUN, force_after=0)
    epoch = (await parts.reads.run_state(RUN)).epoch
    await parts.sweep_now(RUN, report.cancel_id)
    assert [one.force for one in await observer.messages()] == [False, True]
    assert (await parts.reads.run_state(RUN)).epoch > epoch, "the poll finds the forced step, too"
    intent = await parts.intent(RUN, "deaf")
    assert intent is not None
    assert (intent.force, intent.attempt) == (True, 2)


@pytest.mark.usefixtures("always_due")
async def test_given_up_it_is_told_no_more_and_still_listed_open(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await b.register(RUN, [Execution("deaf", status="running")])
    report = await b.cancel_run(RUN, give_up=0)
    await parts.sweep_now(RUN, report.cancel_id)
    assert len(await observer.messages()) == 1
    assert causes(await b.report(RUN)) == {"deaf": "no_worker"}
    assert report.cancel_id in await work_list(parts)


async def test_t12_one_slow_look_of_the_sweep_delays_no_other(b: broker.Broker, parts: Parts) -> None:
    """Taking over a barrier cancel waits for stragglers; what else is due has its turn meanwhile."""
    await register_tree(b)
    await b.register("run-2", [Execution("other")])
    cancel_id = await drive_and_die(b, "bottom_up", "cancel.loaded")
    with dying("cancel.gated") as dead, suppress(Died):
        await b.cancel_run("run-2")
    assert dead.is_set()
    (second,) = await parts.reads.operations("run-2")
    await parts.expire_lease(RUN, cancel_id)
    await parts.expire_lease("run-2", second.cancel_id)
    with holding("sweep.leased") as held:
        await parts.operations.reschedule(RUN, cancel_id, 0)
        sweeping = asyncio.create_task(parts.sweep.keep(every_s=0.01))
        await held.arrived()
        await parts.operations.reschedule("run-2", second.cancel_id, 1)

        async def settled() -> bool:
            return (await b.report("run-2")).settled

        await wait_until(settled, "the second one to be finished while the first stands")
        assert not (await b.report(RUN)).settled
    await wait_until(lambda: _is_settled(b), "the first one, too")
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


async def test_one_failed_look_of_the_sweep_costs_one_round(redis_url: str, b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    cancel_id = await drive_and_die(b, "bottom_up", "cancel.loaded")
    await parts.expire_lease(RUN, cancel_id)
    await parts.operations.reschedule(RUN, cancel_id, 0)

    async def fail() -> None:
        await parts.operations.reschedule(RUN, cancel_id, 0)
        await parts.expire_lease(RUN, cancel_id)
        raise broker.BrokerUnavailable("Redis did not answer")

    with doing("sweep.leased", fail):
        sweeping = asyncio.create_task(parts.sweep.keep(every_s=0.01))
        await wait_until(lambda: _is_settled(b), "the sweep to come back")
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


async def test_a_repeat_with_force_escalates_and_keeps_everything_else(
    b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    await b.register(RUN, [Execution("root", status="running")])
    first = await b.cancel_run(RUN, reason="first", requested_by="ops")
    assert (await parts.operation(RUN, first.cancel_id)).force_after_us is None
    again = await b.cancel_run(RUN, reason="second", requested_by="boss", force_after=0)
    assert (again.cancel_id, again.reason, again.deadline_at) == (first.cancel_id, "first", first.deadline_at)
    assert (await work_list(parts))[first.cancel_id] == 0, "looked at now"
    await parts.sweep_now(RUN, first.cancel_id)
    assert [one.force for one in await observer.messages()] == [False, True]
    (escalated,) = [entry for entry in await b.audit(RUN) if entry.event == "escalated"]
    assert (escalated.cancel_id, escalated.by, escalated.reason) == (first.cancel_id, "boss", "second")

    later = await b.cancel_run(RUN, force_after=3600)
    assert later.cancel_id == first.cancel_id
    operation = await parts.operation(RUN, first.cancel_id)
    assert operation.force_after_us is not None
    assert operation.force_after_us < 3600 * SECOND_US, "an escalation is never taken back"
