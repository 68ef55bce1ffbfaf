"""Whoever drives a cancel may die at any step: another finishes it, and tells nobody twice.

The steps are read from the source of the engine and of the sweep, so a new one is tested when it is written.
"""

from __future__ import annotations

import pytest

import broker
from broker import Execution
from broker.protocol.states import Scope
from tests.support.driving import (
    ORDERS,
    PARENTS,
    RUN,
    TREE,
    causes,
    drive_and_die,
    points_of,
    register_tree,
    work_list,
)
from tests.support.observer import Observer, assert_children_first, assert_each_once
from tests.support.parts import Parts, open_parts
from tests.support.points import Died, dying

SECOND_US = 1_000_000
BEFORE_THE_GATE = "cancel.listed"  # nothing is cancelled yet: test_a_driver_that_dies_before_the_gate_…
ENGINE = points_of("cancel/engine.py", "cancel/publish.py", "cancel/settle.py")
SWEEP = points_of("cancel/sweep.py")
ONLY_BARRIER = "cancel.level"
ONLY_SUBTREE = "cancel.settling"
SECOND_LOOK = ("sweep.redelivered", ONLY_SUBTREE)  # passed where the walk is over and something is, or was, unsettled
WALKED = ("cancel.settling", "cancel.leaving", "cancel.handed_over")
"""Points after the walk: everything is told there, and what is left is to settle and to hand over."""


def deaths() -> list[tuple[str, Scope, str, int]]:
    """Order, scope, point, and the how-many-th passing of it."""
    return [
        (order, scope, point, number)
        for order in ORDERS
        for scope in (Scope.RUN, Scope.SUBTREE)
        for point in ENGINE
        for number in ((1, 3) if point in ("cancel.chunk", ONLY_BARRIER) else (1,))
        if point != BEFORE_THE_GATE
        and (order == "bottom_up_barrier" or point != ONLY_BARRIER)
        and (scope is Scope.SUBTREE or point != ONLY_SUBTREE)
    ]


def deaths_of_a_sweep() -> list[tuple[str, str]]:
    """Order and point: its own steps, and those of the engine that it runs for an orphan."""
    by_engine = [point for point in ENGINE if point not in (BEFORE_THE_GATE, "cancel.gated")]
    return [
        (order, point)
        for order in ORDERS
        for point in (*SWEEP, *by_engine)
        if order == "bottom_up_barrier" or point != ONLY_BARRIER
    ]


@pytest.fixture
def one_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each execution is a chunk, and one more is under way when the driver looks at what became of it."""
    monkeypatch.setattr("broker.cancel.publish.CHUNK", 1)
    monkeypatch.setattr("broker.cancel.publish.AT_A_TIME", 1)


@pytest.fixture
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.cancel.schedule.told_for_us", lambda attempt: 0)


async def register_with_a_straggler(b: broker.Broker, scope: Scope) -> list[str]:
    """The tree, and one that is said to run: outside the tree, and for a subtree at its top. Answers who is told."""
    await register_tree(b)
    if scope is Scope.RUN:
        await b.register(RUN, [Execution("top", status="running")])
        return [*TREE, "top"]
    await b.register(RUN, [Execution("stranger", status="running")])
    return TREE


@pytest.mark.usefixtures("one_a_chunk")
@pytest.mark.parametrize(("order", "scope", "point", "number"), deaths())
async def test_t22_where_one_driver_dies_another_goes_on(
    order: str, scope: Scope, point: str, number: int, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """Everything that is left to do is done, and nothing twice."""
    told_ones = await register_with_a_straggler(b, scope)
    target = RUN if scope is Scope.RUN else "root"
    cancel_id = await drive_and_die(b, order, point, number, scope=scope, target=target)
    await parts.sweep_now(RUN, cancel_id)
    assert ((await parts.operation(RUN, cancel_id)).phase == "published") is (point in WALKED), "its lease stands"
    await parts.expire_lease(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    told = await observer.first_attempts()
    assert_each_once(told, told_ones)
    assert_children_first(told, PARENTS)
    if scope is Scope.RUN:
        report = await b.report(RUN, cancel_id)
        assert (report.state, causes(report)) == ("open", {"top": "no_worker"})
        assert await parts.claims.report_status(RUN, "top", "done") == "settled"
    assert (await b.report(RUN, cancel_id)).settled
    await parts.sweep_now(RUN, cancel_id)
    now_us = await parts.operations.now_us()
    assert (await work_list(parts))[cancel_id] > now_us + 30 * SECOND_US, "settled ones stay on the list, due late"


@pytest.mark.parametrize("order", ORDERS)
async def test_t22_a_level_was_told_and_the_driver_dies(
    order: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """The deepest level settles by itself: the operation must not, the root was never told."""
    await register_tree(b)
    await parts.start(RUN, "leaf")
    point = "cancel.level" if order == "bottom_up_barrier" else "cancel.published"
    cancel_id = await drive_and_die(b, order, point)
    assert await parts.finish(RUN, "leaf") == "settled"
    assert not (await b.report(RUN)).settled
    await parts.expire_lease(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    assert_each_once(await observer.first_attempts(), TREE)
    assert (await b.report(RUN)).settled


@pytest.mark.usefixtures("one_a_chunk", "always_due")
@pytest.mark.parametrize(("order", "point"), deaths_of_a_sweep())
async def test_t22_a_sweep_that_dies_is_swept_after(
    order: str, point: str, redis_url: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """The second replica dies at each step, too, its own and those of the engine that it runs; a third goes on."""
    await register_tree(b, "running")
    await b.register(RUN, [Execution("stranger", status="running")])
    cancel_id = await drive_and_die(b, order, "cancel.gated", scope=Scope.SUBTREE, target="root", deadline=0)
    await parts.expire_lease(RUN, cancel_id)
    if point in SECOND_LOOK:
        await parts.sweep_now(RUN, cancel_id)
        await parts.expire_lease(RUN, cancel_id)
    if point == ONLY_SUBTREE:
        await b.cancel_execution("stranger")  # unsettled in the run: so the acks leave the subtree to a driver
        for one in TREE:
            assert await parts.claims.report_status(RUN, one, "failed") == "settled"
    with dying(point) as dead, pytest.raises(Died):
        await parts.sweep_now(RUN, cancel_id)
    assert dead.is_set()
    async with open_parts(redis_url, "replica-3") as third:
        await third.expire_lease(RUN, cancel_id)
        await third.sweep_now(RUN, cancel_id)
        assert (await third.operation(RUN, cancel_id)).phase == "published"
    told = [one for one in await observer.first_attempts() if one != "stranger"]
    assert_each_once(told, TREE)
    left = {} if point == ONLY_SUBTREE else dict.fromkeys(TREE, "no_worker")
    report = await b.report(RUN, cancel_id)
    assert (causes(report), report.settled) == (left, not left)


@pytest.mark.parametrize("order", ORDERS)
async def test_two_operations_of_one_run_whose_drivers_are_both_killed_settle(
    order: str, b: broker.Broker, parts: Parts, observer: Observer
) -> None:
    """Each has its own entry on the work list: the end of one takes nothing from the other."""
    await register_tree(b)
    await parts.start(RUN, "leaf")
    narrow = await drive_and_die(b, order, "cancel.loaded", scope=Scope.SUBTREE, target="mid", deadline=0)
    wide = await drive_and_die(b, order, "cancel.walking", deadline=0)
    assert narrow != wide
    for cancel_id in (wide, narrow):
        await parts.expire_lease(RUN, cancel_id)
        await parts.sweep_now(RUN, cancel_id)
    assert_each_once(await observer.first_attempts(), TREE)
    for cancel_id in (wide, narrow):
        assert causes(await b.report(RUN, cancel_id)) == {"leaf": "no_ack"}
    assert await parts.finish(RUN, "leaf") == "settled"
    for cancel_id in (narrow, wide):
        await parts.sweep_now(RUN, cancel_id)
        assert (await b.report(RUN, cancel_id)).settled
    assert set(await work_list(parts)) == {narrow, wide}
