"""What events say of executions, script call by script call: who may end what, what is news, what is evidence."""

from __future__ import annotations

import itertools

import pytest

from broker.cancel.survey import Survey
from broker.protocol.states import Scope
from broker.store.claims import Holder
from broker.store.operations import CancelTerms
from broker.store.reports import Report, event_stamp, report
from tests.support.observer import Observer
from tests.support.parts import Parts

RUN = "run-1"


def said(
    execution_id: str,
    status: str,
    at: int = 0,
    *,
    by: str = "",
    start: int = 1,
    parent: str = "",
    created: bool = False,
) -> Report:
    """Said at the `at`th microsecond of an hour, by a stranger or by a holder."""
    stamp = event_stamp(0 if created else 1_000_000 + at, "1", str(at))
    return Report(
        execution_id, status, parent_execution_id=parent, stamp=stamp, worker_id=by, start=str(start) if by else ""
    )


async def say(parts: Parts, *reports: Report) -> list[str]:
    return await report(parts.backend, RUN, reports)


async def disposition(parts: Parts, execution_id: str) -> tuple[str, str] | None:
    ack = await parts.ack_of(RUN, execution_id)
    return (ack.disposition, ack.outcome) if ack else None


async def cancel(parts: Parts, scope: Scope = Scope.RUN, target: str = "") -> str:
    """Cancels all that there is; answers the cancel id."""
    answer = await parts.engine.cancel(RUN, CancelTerms(scope, target, allow_unknown=True))
    return answer.cancel_id


async def causes(parts: Parts, cancel_id: str) -> dict[str, str]:
    report = await Survey(parts.reads, parts.operations).report(RUN, cancel_id)
    return {one.execution_id: str(one.cause) for one in report.still_running}


async def close_gate(parts: Parts) -> str:
    """Only the gate: its walk has not come by yet."""
    listed = await parts.operations.enlist(RUN, "c_1")
    opened = await parts.operations.open(RUN, "c_1", CancelTerms(Scope.RUN, allow_unknown=True), listed)
    return opened.operation.cancel_id


# --- order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_among_statuses_that_end_nothing_the_time_decides(order: tuple[int, ...], parts: Parts) -> None:
    everything = [said("x", "queued", created=True), said("x", "running", 10), said("x", "waiting", 20)]
    for number in order:
        await say(parts, everything[number])
    assert await parts.status(RUN, "x") == "waiting"


async def test_of_two_at_the_same_time_the_later_in_the_stream_decides(parts: Parts) -> None:
    first = Report("x", "running", stamp=event_stamp(5, "7", "1"))
    second = Report("x", "paused", stamp=event_stamp(5, "7", "2"))
    third = Report("x", "waiting", stamp=event_stamp(5, "8", "0"))
    assert await say(parts, second, first, third, second) == ["changed", "kept", "changed", "kept"]
    assert await parts.status(RUN, "x") == "waiting"


async def test_terminal_wins_however_old_it_is(parts: Parts) -> None:
    """A start that is newer than it changes no status; it shows in what a cancel tells."""
    assert await say(parts, said("x", "running", 50), said("x", "done", 10), said("x", "running", 60)) == [
        "changed", "changed", "started_again",
    ]  # fmt: skip
    assert await parts.status(RUN, "x") == "done"
    assert (await parts.reads.run_state(RUN)).active == 0


async def test_a_creation_that_comes_late_fills_gaps_and_changes_no_status(parts: Parts) -> None:
    """Also where the worker's own start was faster than the event."""
    await parts.start(RUN, "x")
    late = said("x", "queued", 99, parent="root", created=True)._replace(agent_node_id="gpu-7", started_at_us="5")
    assert await say(parts, late) == ["kept"]
    record = await parts.reads.execution(RUN, "x")
    assert record is not None
    assert (record.raw_status, record.parent_execution_id, record.agent_node_id) == ("running", "root", "gpu-7")
    assert record.claimed


async def test_what_is_older_than_the_worker_s_own_start_does_not_take_it_back(parts: Parts) -> None:
    await parts.start(RUN, "x")
    assert await say(parts, said("x", "queued", 5)) == ["kept"]
    assert await parts.status(RUN, "x") == "running"
    assert await parts.claims.report_status(RUN, "x", "waiting") == "changed"


async def test_an_end_before_its_start_is_an_end(parts: Parts) -> None:
    assert await say(parts, said("x", "failed", 30), said("x", "running", 20), said("x", "queued", created=True)) == [
        "changed", "kept", "kept",
    ]  # fmt: skip
    assert await say(parts, said("y", "failed", 30, by="w"), said("y", "running", 20, by="w")) == ["changed", "kept"]
    for one in ("x", "y"):
        record = await parts.reads.execution(RUN, one)
        assert record is not None
        assert (record.raw_status, record.claimed) == ("failed", False)
    assert (await parts.reads.run_state(RUN)).active == 0


async def test_another_parent_is_refused_and_the_status_is_taken(parts: Parts) -> None:
    await say(parts, said("x", "running", 1, parent="a"))
    assert await say(parts, said("x", "done", 2, parent="b")) == ["parent_conflict"]
    record = await parts.reads.execution(RUN, "x")
    assert record is not None
    assert (record.parent_execution_id, record.raw_status) == ("a", "done")


# --- claims -------------------------------------------------------------------------------------------------------


async def test_a_start_by_event_is_a_claim_that_only_its_holder_ends(parts: Parts) -> None:
    assert await say(parts, said("x", "running", 1, by="w")) == ["claimed"]
    assert await say(parts, said("x", "failed", 2)) == ["changed"]
    record = await parts.reads.execution(RUN, "x")
    assert record is not None
    assert (record.claimed, record.start, record.incarnation) == (True, "1", "0")
    assert await say(parts, said("x", "done", 3, by="other"), said("x", "done", 3, by="w", start=1)) == [
        "late",
        "ended",
    ]
    record = await parts.reads.execution(RUN, "x")
    assert record is not None
    assert (record.claimed, record.raw_status) == (False, "failed")


async def test_the_worker_of_the_sdk_may_end_by_event_without_its_incarnation(parts: Parts) -> None:
    await parts.start(RUN, "x")
    assert await say(parts, said("x", "done", 1, by="worker-1", start=1)) == ["ended"]
    assert await parts.finish(RUN, "x", start=1, status="failed") == "repeat"


async def test_a_newer_claim_replaces_an_older_one_and_the_older_is_late(parts: Parts) -> None:
    await say(parts, said("x", "running", 1, by="w1", start=1))
    epoch = (await parts.reads.run_state(RUN)).epoch
    assert await say(parts, said("x", "running", 2, by="w2", start=2)) == ["claimed"]
    assert (await parts.reads.run_state(RUN)).epoch == epoch + 1
    assert await say(parts, said("x", "done", 3, by="w1", start=1), said("x", "running", 4, by="w1", start=1)) == [
        "late", "late",
    ]  # fmt: skip
    assert await parts.status(RUN, "x") == "running"


async def test_a_claim_that_is_given_back_by_event_counts_as_none(parts: Parts) -> None:
    await say(parts, said("x", "running", 1, by="w"))
    assert await say(parts, said("x", "queued", 2, by="w")) == ["released"]
    await cancel(parts)
    assert await disposition(parts, "x") == ("never_started", "")


# --- cancelled ----------------------------------------------------------------------------------------------------


async def test_cancelled_by_the_holder_is_its_stopped(parts: Parts) -> None:
    await say(parts, said("x", "running", 1, by="w"))
    await cancel(parts)
    assert await disposition(parts, "x") is None
    assert await say(parts, said("x", "cancelled", 2, by="other")) == ["late"]
    assert await say(parts, said("x", "cancelled", 2, by="w")) == ["settled"]
    assert await disposition(parts, "x") == ("stopped", "cancelled")
    assert (await parts.only_operation(RUN)).state == "settled"


async def test_cancelled_by_anyone_else_is_a_cancel_to_be_made(parts: Parts) -> None:
    await say(parts, said("x", "running", 1, by="w"))
    assert await say(parts, said("x", "cancelled", 2), said("new", "cancelled", 2, parent="x")) == ["cancel_wanted"] * 2
    assert await parts.status(RUN, "x") == "running"
    assert await parts.status(RUN, "new") == "pending"


@pytest.mark.parametrize("by", ["", "w"])
async def test_t37_an_end_under_the_gate_is_the_cancel_s(by: str, parts: Parts) -> None:
    await say(parts, said("x", "running", 1, by=by), said("ok", "running", 1, by=by))
    await close_gate(parts)
    assert await say(parts, said("x", "failed", 2, by=by), said("ok", "done", 2, by=by)) == [
        "settled", "ended" if by else "changed",
    ]  # fmt: skip
    assert (await parts.status(RUN, "x"), await parts.status(RUN, "ok")) == ("cancelled", "done")
    assert await disposition(parts, "x") == ("ended_itself", "failed")
    assert await say(parts, said("never-seen", "timeout", 3, by=by)) == ["settled"]
    assert await disposition(parts, "never-seen") == ("ended_itself", "timeout")


# --- evidence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["", "w"])
async def test_what_runs_under_a_closed_gate_is_told_at_once(by: str, parts: Parts, observer: Observer) -> None:
    """Known or not: no walk is waited for."""
    await say(parts, said("known", "pending", created=True))
    await close_gate(parts)
    assert await say(parts, said("known", "running", 1, by=by), said("new", "running", 1, by=by)) == ["cancelled"] * 2
    assert await say(parts, said("waits", "queued", 1)) == ["cancelled"]
    told = {message.execution_id: (message.source.value, message.start) for message in await observer.messages()}
    assert told == dict.fromkeys(["known", "new"], ("gate", 1 if by else 0))
    assert await disposition(parts, "waits") == ("never_started", "")


@pytest.mark.parametrize("by", ["", "w"])
async def test_a_start_after_never_started_reopens_however_old_its_event_is(
    by: str, parts: Parts, observer: Observer
) -> None:
    await say(parts, said("x", "queued", created=True))
    cancel_id = await cancel(parts)
    assert (await parts.operation(RUN, cancel_id)).state == "settled"
    assert await say(parts, said("x", "running", 1, by=by), said("x", "running", 1, by=by)) == ["reopened", "kept"]
    assert (await parts.operation(RUN, cancel_id)).state == "open"
    assert await parts.operations.due_at(RUN, cancel_id) == 0
    assert await parts.reads.unsettled(RUN) == ["x"]
    assert [message.start for message in await observer.messages()] == [0, 1 if by else 0]


@pytest.mark.parametrize("by", ["", "w"])
async def test_a_start_after_an_end_that_no_holder_reported_reopens(by: str, parts: Parts) -> None:
    """An older start is none: it only came later than its end."""
    await say(parts, said("x", "failed", 20), said("y", "failed", 20))
    cancel_id = await cancel(parts)
    assert await say(parts, said("x", "running", 10, by=by)) == ["kept"]
    assert (await parts.operation(RUN, cancel_id)).state == "settled"
    assert await say(parts, said("x", "running", 30, by=by)) == ["reopened"]
    assert (await parts.operation(RUN, cancel_id)).state == "open"
    assert await parts.status(RUN, "x") == "failed"


async def test_a_late_start_after_the_holder_s_own_end_is_no_evidence(parts: Parts) -> None:
    await say(parts, said("x", "running", 1, by="w"))
    await cancel(parts)
    await say(parts, said("x", "cancelled", 2, by="w"))
    assert await say(parts, said("x", "running", 3, by="w"), said("x", "running", 3)) == ["kept", "kept"]
    assert (await parts.only_operation(RUN)).state == "settled"
    assert await say(parts, said("x", "running", 4, by="w2", start=2)) == ["reopened"], "a retry that started by event"
    assert (await parts.only_operation(RUN)).state == "open"


async def test_a_parent_learned_by_event_brings_a_child_under_the_gate(parts: Parts, observer: Observer) -> None:
    """The child's creation comes first, then a cancel of what turns out to stand above it."""
    await say(parts, said("leaf", "running", 1, parent="middle"))
    cancel_id = await cancel(parts, Scope.SUBTREE, "top")
    assert await observer.first_attempts() == []
    await say(parts, said("middle", "running", 2, parent="top"))
    operation = await parts.operation(RUN, cancel_id)
    assert (operation.dirty, operation.state) == (True, "open")
    await parts.expire_lease(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    assert set(await observer.first_attempts()) == {"leaf", "middle"}


async def test_a_claim_by_event_has_no_heartbeat_so_it_is_never_lost(parts: Parts, observer: Observer) -> None:
    """Not even where processes with a heart have had the same worker id, and all of them are gone."""
    for _ in range(2):
        await parts.claims.new_incarnation("worker-1")
    await say(parts, said("x", "running", 1, by="worker-1"))
    cancel_id = await cancel(parts)
    await parts.expire_lease(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    answer = await parts.start(RUN, "x", holder=Holder("worker-1", 3))
    assert (answer.code, answer.start) == ("cancelled", 0)
    assert await disposition(parts, "x") is None
    assert await observer.first_attempts() == ["x"], "delivered to somebody"
    assert await causes(parts, cancel_id) == {"x": "no_ack"}
    assert await say(parts, said("x", "cancelled", 2, by="worker-1")) == ["settled"]


# --- what runs by somebody's word, and is started again -------------------------------------------------------------


@pytest.mark.parametrize("walked", [True, False], ids=["told", "before the walk"])
async def test_a_refused_start_says_nothing_of_what_an_event_said_is_running(walked: bool, parts: Parts) -> None:
    """The starter does not run; whoever runs it already is still asked, until somebody says that it has ended."""
    await say(parts, said("x", "running", 1))
    cancel_id = await (cancel if walked else close_gate)(parts)
    assert (await parts.start(RUN, "x")).code == "cancelled"
    assert await disposition(parts, "x") is None
    assert await causes(parts, cancel_id) == {"x": "no_worker"}
    await parts.expire_lease(RUN, cancel_id)
    await parts.sweep_now(RUN, cancel_id)
    assert (await parts.operation(RUN, cancel_id)).state == "open"
    assert await say(parts, said("x", "done", 2)) == ["settled"]
    assert (await parts.operation(RUN, cancel_id)).state == "settled"


async def test_a_refused_start_does_not_take_evidence_back(parts: Parts) -> None:
    """A terminal status stays what it was, too."""
    await say(parts, said("x", "queued", created=True), said("y", "failed", 20))
    cancel_id = await cancel(parts)
    assert await say(parts, said("x", "running", 30), said("y", "running", 30)) == ["reopened"] * 2
    for one in ("x", "y"):
        assert (await parts.start(RUN, one)).code == "cancelled"
        assert await disposition(parts, one) is None
    assert await causes(parts, cancel_id) == {"x": "no_worker", "y": "no_worker"}
    assert await parts.status(RUN, "y") == "failed"


GIVEN_BACK = [said("x", "running", 1, by="w"), said("x", "queued", 2, by="w")]
ENDED_FIRST = [said("x", "running", 1, by="w"), said("x", "failed", 20), said("x", "queued", 21, by="w")]


@pytest.mark.parametrize("scope", [Scope.RUN, Scope.SUBTREE])
@pytest.mark.parametrize(
    "before",
    [[], GIVEN_BACK, ENDED_FIRST, [said("x", "queued", created=True)]],
    ids=["unknown", "given back", "given back after its end", "created"],
)
async def test_a_start_after_an_end_that_no_holder_reported_is_told_by_a_later_cancel(
    before: list[Report], scope: Scope, parts: Parts, observer: Observer
) -> None:
    await say(parts, *before, said("x", "failed", 20), said("x", "running", 30))
    assert await parts.status(RUN, "x") == "failed"
    cancel_id = await cancel(parts, scope, "x" if scope is Scope.SUBTREE else "")
    assert await observer.first_attempts() == ["x"]
    assert await causes(parts, cancel_id) == {"x": "no_worker"}
    assert await parts.status(RUN, "x") == "failed", "terminal is terminal"
    assert await say(parts, said("x", "failed", 20)) == ["kept"], "the end of before, delivered again"
    assert (await parts.operation(RUN, cancel_id)).state == "open"
    assert await say(parts, said("x", "done", 40)) == ["settled"]
    assert await disposition(parts, "x") == ("ended_itself", "done")


async def test_a_start_after_an_end_is_named_while_its_walk_is_to_come(parts: Parts) -> None:
    await say(parts, said("x", "failed", 20), said("x", "running", 30))
    assert await causes(parts, await close_gate(parts)) == {"x": "no_worker"}


async def test_an_end_that_is_newer_than_the_start_after_an_end_ends_it_again(parts: Parts) -> None:
    """Whatever the order in which they come; and a holder's claim stands for the start that nobody claimed."""
    await say(parts, said("x", "failed", 20), said("x", "running", 30), said("x", "done", 40))
    await say(parts, said("y", "failed", 20), said("y", "done", 40), said("y", "running", 30))
    await say(parts, said("z", "failed", 20), said("z", "running", 30))
    await say(parts, said("z", "running", 31, by="w"), said("z", "done", 40, by="w"))
    cancel_id = await cancel(parts)
    assert (await parts.operation(RUN, cancel_id)).state == "settled"
    assert [await parts.intent(RUN, one) for one in ("x", "y", "z")] == [None] * 3


async def test_a_late_start_after_the_holder_s_own_end_is_not_told_by_a_later_cancel(parts: Parts) -> None:
    """Nor where somebody else had said before that it has ended."""
    await say(parts, said("x", "running", 1, by="w"), said("x", "done", 2, by="w"), said("x", "running", 3))
    await parts.start(RUN, "y")
    await say(parts, said("y", "failed", 20))
    assert await parts.finish(RUN, "y", status="failed", disposition="ended_itself") == "ended"
    await say(parts, said("y", "running", 30))
    assert (await parts.operation(RUN, await cancel(parts))).state == "settled"


@pytest.mark.parametrize("gated_first", [True, False])
async def test_an_end_from_before_a_start_does_not_settle_it(gated_first: bool, parts: Parts) -> None:
    """At least once, in any order: the first end may be delivered again after the start that came behind it."""
    await say(parts, said("x", "failed", 20))
    if gated_first:
        await cancel(parts)
    await say(parts, said("x", "running", 30))
    cancel_id = await cancel(parts)
    assert await say(parts, said("x", "failed", 20), said("x", "failed", 25)) == ["kept"] * 2
    assert await causes(parts, cancel_id) == {"x": "no_worker"}
    assert await say(parts, said("x", "failed", 35)) == ["settled"]
