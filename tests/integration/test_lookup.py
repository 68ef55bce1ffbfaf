"""What a control plane and an operator look up: executions, runs, operations; both axes, and what a gate covers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

import broker
from broker import Execution
from broker.errors import InvalidId, InvalidInput, NoCancellation, NotFound
from tests.support.parts import Parts
from tests.support.points import holding

RUN = "run-1"


async def register_tree(b: broker.Broker) -> None:
    """root → mid → leaf, and beside them: side."""
    await b.register(
        RUN,
        [
            Execution("root", status="in_progress", agent_node_id="planner", reasoner_id="plan|50%"),
            Execution("mid", parent_execution_id="root", status="running"),
            Execution("leaf", parent_execution_id="mid", status="queued"),
            Execution("side", parent_execution_id="root", status="completed"),
        ],
    )


async def test_an_execution_that_nobody_cancelled(b: broker.Broker) -> None:
    await register_tree(b)
    root, leaf = await b.execution("root"), await b.execution("leaf")
    assert (root.run_id, root.depth, root.status, root.agent_node_id) == (RUN, 0, "running", "planner")
    assert (root.reasoner_id, root.parent_execution_id, root.claim) == ("plan|50%", None, None)
    assert (root.disposition, root.cause, root.cancel_id, root.status_reason) == (None, None, None, None)
    assert (leaf.parent_execution_id, leaf.depth) == ("mid", 2)
    assert root.registered_at is not None
    assert root.started_at is None


async def test_an_execution_that_is_still_running_after_its_cancel(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    await parts.start(RUN, "mid")
    report = await b.cancel_run(RUN, reason="enough")
    mid, leaf = await b.execution("mid"), await b.execution("leaf")
    assert (mid.status, mid.status_reason, mid.cancel_id) == ("cancelled", "enough", report.cancel_id)
    assert (mid.disposition, mid.cause, mid.claim) == ("asked", "not_delivered", broker.Claim("worker-1", 1, 1))
    assert mid.published_at is not None
    assert mid.settled_at is None
    assert (leaf.disposition, leaf.cause) == ("never_started", None)
    assert leaf.settled_at is not None


@pytest.mark.parametrize("scope", ["run", "subtree"])
async def test_what_a_closed_gate_covers_reads_cancelled_before_its_walk_comes_by(scope: str, b: broker.Broker) -> None:
    await register_tree(b)
    with holding("cancel.gated") as held:
        cancel = b.cancel_run(RUN, reason="r") if scope == "run" else b.cancel_subtree("mid", reason="r")
        cancelling = asyncio.create_task(cancel)
        await held.arrived()
        seen = {node.execution_id: node for node in (await b.run(RUN)).nodes}
        assert (seen["leaf"].status, seen["leaf"].status_reason, seen["leaf"].disposition) == ("cancelled", "r", None)
        assert await b.execution("leaf") == seen["leaf"]
        assert seen["side"].status == "succeeded"
        assert seen["root"].status == ("cancelled" if scope == "run" else "running")
        assert (await b.preview(RUN)).would_cancel == (0 if scope == "run" else 1)
        held.release()
        await cancelling


@pytest.mark.parametrize(
    ("statuses", "word"),
    [
        (["completed"], "succeeded"),
        (["completed", "cancelled"], "cancelled"),
        (["cancelled", "timed_out"], "timeout"),
        (["timeout", "error", "ok"], "failed"),
        (["failed", "nonsense"], "running"),
        (["queued"], "running"),
        (["running", "on_hold"], "paused"),
    ],
)
async def test_the_status_of_a_run(statuses: list[str], word: str, b: broker.Broker) -> None:
    await b.register(RUN, [Execution(f"e{at}", status=status) for at, status in enumerate(statuses)])
    assert (await b.run(RUN)).workflow_status == word


async def test_a_run_is_read_in_pages_that_miss_and_repeat_nothing(b: broker.Broker) -> None:
    await b.register(RUN, [Execution(f"e{at:03}", parent_execution_id="e000" if at else None) for at in range(25)])
    seen: list[str] = []
    cursor: int | None = 0
    while cursor is not None:
        page = await b.run(RUN, cursor=cursor, limit=10)
        assert page.total_nodes == 25
        seen += [node.execution_id for node in page.nodes]
        cursor = page.next_cursor
        await b.register(RUN, [Execution("e000")])
    assert seen == [f"e{at:03}" for at in range(25)]
    assert (await b.run(RUN, cursor=10_000)).nodes == ()


async def test_depth_in_a_cycle_is_the_walk_s(b: broker.Broker) -> None:
    loop = [Execution("a", parent_execution_id="b"), Execution("b", parent_execution_id="a")]
    await b.register(RUN, [*loop, Execution("below", parent_execution_id="b"), Execution("orphan", "nobody")])
    preview = {node.execution_id: node.depth for node in (await b.preview(RUN)).nodes}
    assert {one: (await b.execution(one)).depth for one in preview} == preview
    assert preview["orphan"] == 0


@pytest.mark.parametrize(
    ("started_at", "read"),
    [
        ("1969-12-31T23:59:59.999999+00:00", None),
        ("0001-01-01T00:00:00+00:00", None),
        ("9999-12-31T23:59:59-23:59", datetime(2255, 3, 14, 16, 0, tzinfo=UTC)),
    ],
)
async def test_a_start_that_no_clock_can_have_said_hides_nothing(
    started_at: str, read: datetime | None, b: broker.Broker
) -> None:
    """Before 1970 it is an unset time; what Lua cannot compare exactly is cut."""
    await b.register(RUN, [Execution("odd", status="running", started_at=datetime.fromisoformat(started_at))])
    assert (await b.execution("odd")).started_at == read
    report = await b.cancel_run(RUN)
    assert [one.execution_id for one in report.still_running] == ["odd"]


async def test_previews_of_the_three_scopes_change_nothing(b: broker.Broker) -> None:
    await register_tree(b)
    run, below = await b.preview(RUN), await b.preview_subtree("mid")
    narrow = await b.preview_execution("leaf")
    assert [(one.executions, one.would_cancel) for one in (run, below, narrow)] == [(4, 3), (2, 2), (1, 1)]
    assert (narrow.nodes[0].depth, narrow.nodes[0].previous_status) == (2, "queued")
    with pytest.raises(NoCancellation):
        await b.report(RUN)


async def test_the_operators_list(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    await b.register("run-2", [Execution("alone")])
    await parts.start(RUN, "mid")
    first = await b.cancel_subtree("mid", reason="r", requested_by="ops", deadline=0)
    second = await b.cancel_run("run-2")
    listed = await b.cancellations()
    (one,) = listed.cancellations
    assert (one.run_id, one.cancel_id, one.scope, one.target) == (RUN, first.cancel_id, "subtree", "mid")
    assert (one.outstanding, dict(one.causes), one.overdue) == (1, {"not_delivered": 1}, True)
    assert (one.reason, one.requested_by, listed.next_cursor) == ("r", "ops", None)
    settled = (await b.cancellations("settled")).cancellations
    assert [(one.cancel_id, one.outstanding) for one in settled] == [(second.cancel_id, 0)]
    page = await b.cancellations("all", limit=1)
    assert (page.cancellations[0].cancel_id, page.next_cursor) == (first.cancel_id, 1)
    assert (await b.cancellations("all", cursor=1)).cancellations[0].cancel_id == second.cancel_id


async def test_a_report_can_be_waited_for_together(b: broker.Broker, parts: Parts) -> None:
    await register_tree(b)
    await parts.start(RUN, "mid")
    await parts.start(RUN, "root")
    await b.cancel_run(RUN)
    waiting = [asyncio.create_task(b.report(RUN, wait=60)) for _ in range(20)]
    assert (await b.report(RUN, wait=0)).state == "open"
    await parts.finish(RUN, "mid")
    await parts.finish(RUN, "root")
    reports = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert {report.state for report in reports} == {"settled"}
    assert (await b.report(RUN, wait=60)).settled, "settled already: no waiting"


async def test_an_execution_without_a_run_has_its_report(b: broker.Broker) -> None:
    await b.register(None, [Execution("alone", status="running")])
    assert (await b.execution("alone")).run_id is None
    with pytest.raises(NoCancellation):
        await b.report_execution("alone")
    report = await b.cancel_execution("alone")
    assert (report.run_id, report.still_running[0].cause) == (None, "no_worker")
    again = await b.cancel_execution("alone")
    assert (report.repeated, again.repeated, again.cancel_id) == (False, True, report.cancel_id)
    assert (await b.report_execution("alone", wait=0)).cancel_id == report.cancel_id


async def test_an_execution_without_a_run_that_was_never_cancelled_is_called_by_its_own_name(b: broker.Broker) -> None:
    await b.register(None, [Execution("solo")])
    with pytest.raises(NoCancellation, match=r"^execution solo was never cancelled$"):
        await b.report_execution("solo")


async def test_what_is_not_known_and_what_is_not_allowed(b: broker.Broker) -> None:
    for missing in (b.execution("nobody"), b.run("no-run"), b.preview_subtree("nobody"), b.report_execution("nobody")):
        with pytest.raises(NotFound, match=r"(execution nobody|run no-run) not found"):
            await missing
    with pytest.raises(InvalidId):
        await b.execution("{bad}")
    with pytest.raises(InvalidInput, match="open, settled, all"):
        await b.cancellations("closed")
    for cursor, limit in ((-1, 1), (0, 0), (0, 1001)):
        with pytest.raises(InvalidInput, match="1 to 1000"):
            await b.run(RUN, cursor=cursor, limit=limit)
