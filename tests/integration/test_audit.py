"""The run's log says who did what, when and why, and how it ended."""

from __future__ import annotations

import pytest

import broker
from broker import Execution
from broker.protocol.states import Scope
from tests.support.driving import RUN, TREE, drive_and_die, register_tree
from tests.support.parts import Parts


async def events(b: broker.Broker) -> list[str]:
    return [entry.event for entry in await b.audit(RUN)]


async def test_the_log_of_a_cancel_tells_its_story(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    await parts.start(RUN, "leaf")
    report = await b.cancel_subtree("mid", reason="too | slow", requested_by="ops@example")
    await parts.finish(RUN, "leaf")
    requested, published, settled = await b.audit(RUN)
    assert (requested.event, requested.cancel_id, requested.detail) == ("requested", report.cancel_id, "subtree mid")
    assert (requested.by, requested.reason) == ("ops@example", "too | slow")
    assert (published.event, published.detail, published.by) == ("published", "2 levels, 3 executions", None)
    assert settled.event == "settled"
    assert settled.detail.startswith("2 levels, 3 executions, ")
    assert requested.at_us <= published.at_us <= settled.at_us


async def test_a_takeover_is_in_the_log_with_its_fence(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b, "running")
    cancel_id = await drive_and_die(b, "bottom_up", "cancel.loaded")
    await parts.expire_lease(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    assert await events(b) == ["requested", "takeover", "published"], "a look that tells again is no takeover"
    takeover = (await b.audit(RUN))[1]
    assert (takeover.cancel_id, takeover.by, takeover.detail) == (cancel_id, "replica-2", "fence 2")


async def test_overdue_and_given_up_are_noted_once(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b, "running")
    cancel_id = (await b.cancel_run(RUN, deadline=0, give_up=0)).cancel_id
    for _ in range(2):
        await parts.sweep_now(RUN, cancel_id)
    assert await events(b) == ["requested", "published", "overdue", "given_up"]
    overdue, given_up = (await b.audit(RUN))[2:]
    assert (overdue.detail, given_up.detail) == (f"{len(TREE)} still running",) * 2
    assert (await parts.operation(RUN, cancel_id)).remarked == {"overdue", "given_up"}


async def test_only_who_has_the_lease_notes_anything(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b, "running")
    report = await b.cancel_run(RUN)
    stale = await parts.operation(RUN, report.cancel_id)
    await parts.sweep_now(RUN, report.cancel_id)
    await parts.operations.remark(RUN, stale, "overdue", "nonsense")
    assert await events(b) == ["requested", "published"]


async def test_a_reopening_says_why(b: broker.Broker, parts: Parts) -> None:
    await b.register(RUN, [Execution("root")])
    report = await b.cancel_run(RUN)
    assert await parts.claims.report_status(RUN, "root", "running") == "reopened"
    reopened = (await b.audit(RUN))[-1]
    assert (reopened.event, reopened.cancel_id, reopened.detail) == ("reopened", report.cancel_id, "seen to start")


async def test_the_log_is_read_in_pages(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    for one in TREE:
        await drive_and_die(b, "bottom_up", "cancel.handed_over", scope=Scope.SUBTREE, target=one)
    everything = await b.audit(RUN)
    assert len(everything) == 3 * len(TREE)
    read: list[broker.AuditEntry] = []
    while page := await parts.reads.log(RUN, after=read[-1].position if read else "", limit=4):
        assert len(page) <= 4
        read += page
    assert tuple(read) == everything
    first = await b.audit(RUN, limit=5)
    rest = await b.audit(RUN, cursor=first[-1].position, limit=1000)
    assert (len(first), first + rest) == (5, everything)
    assert await b.audit(RUN, cursor=first[-1].position) == rest
    for limit in (0, -1, 1001):
        with pytest.raises(broker.InvalidInput):
            await b.audit(RUN, limit=limit)


async def test_a_run_that_nobody_cancelled_has_an_empty_log_and_an_unknown_one_none(b: broker.Broker) -> None:
    with pytest.raises(broker.NotFound, match="run run-1 not found"):
        await b.audit(RUN)
    await register_tree(b)
    assert await b.audit(RUN) == ()
    with pytest.raises(broker.InvalidId):
        await b.audit("no id")
