"""The report is pure: the same records give the same stragglers, causes and lags."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from broker.cancel.report import CancelReport, Worker, build_report, evidence_of, percentiles
from broker.cancel.tally import Tally
from broker.protocol.records import AckRecord, ExecutionRecord, IntentRecord, OperationRecord, Rows
from broker.protocol.states import Cause, Disposition
from tests.support.operations import open_operation

NOW_US = 1_795_342_400_000_000
TOLD_US = NOW_US - 10_000_000
OPERATION = open_operation(requested_at_us=TOLD_US, deadline_us=NOW_US + 20_000_000)
CLAIMED = ExecutionRecord("cancelled", "", "gpu-7", "", str(TOLD_US), str(TOLD_US), "0", "1", "1")
UNCLAIMED = CLAIMED._replace(slot="", incarnation="", start="0")
INTENT = IntentRecord("c_1", TOLD_US, 1, 1, False)
DEAD = Worker("worker-1", False, True, None)
SLOTS = {"0": "worker-1"}
ALIVE = Worker("worker-1", True, True, NOW_US - 2_000_000)


def ack(word: str, *, received: int | None = None, settled: int | None = None) -> AckRecord:
    def text(at_us: int | None) -> str:
        return "" if at_us is None else str(at_us)

    return AckRecord(word, "1", "1", "0", "", text(received), text(settled), "")


class Found(NamedTuple):
    """One execution, called leaf, held by worker-1."""

    record: ExecutionRecord
    intent: IntentRecord | None
    said: AckRecord | None
    worker: Worker | None


def found(
    record: ExecutionRecord = CLAIMED,
    *,
    intent: IntentRecord | None = INTENT,
    said: AckRecord | None = None,
    worker: Worker | None = ALIVE,
) -> Found:
    return Found(record, intent, said, worker)


def report_on(operation: OperationRecord, *all_found: Found, cursor: int = 0) -> CancelReport:
    """The first is called leaf, the others leaf-1, leaf-2 …"""
    names = [f"leaf-{number}" if number else "leaf" for number in range(len(all_found))]
    tally = Tally(operation)
    for name, one in zip(names, all_found, strict=True):
        tally.add(row(name, one))
    workers = {one.worker.worker_id: one.worker for one in all_found if one.worker}
    evidence = evidence_of(tally, dict.fromkeys(names, 3), SLOTS, workers, NOW_US, {})
    return build_report("run-1", operation, tally, evidence, cursor=cursor)


def row(name: str, one: Found) -> Rows:
    """As it stands in Redis."""
    said = None if one.said is None else "|".join(one.said)
    return Rows([name], ["|".join(one.record)], [one.intent and intent_text(one.intent)], [said])


def intent_text(intent: IntentRecord) -> str:
    receivers = "" if intent.receivers is None else str(intent.receivers)
    return f"{intent.cancel_id}|{intent.published_at_us}|{intent.attempt}|{intent.start}|{intent.force:d}|{receivers}"


@pytest.mark.parametrize(
    ("one", "cause"),
    [
        (found(said=ack("refused", received=TOLD_US)), Cause.REFUSED),
        (found(said=ack("deferred", received=TOLD_US)), Cause.DEFERRED),
        (found(said=ack("received", received=TOLD_US)), Cause.STOPPING),
        (found(UNCLAIMED), Cause.NO_WORKER),
        (found(worker=DEAD), Cause.WORKER_LOST),
        (found(intent=INTENT._replace(receivers=0)), Cause.NOT_DELIVERED),
        (found(), Cause.NO_ACK),
        (found(worker=None), Cause.NO_ACK),
        (found(worker=Worker("worker-1", False, False, None)), Cause.NO_ACK),
        # the first that is true: a worker that said it is stopping and then died was heard first
        (
            found(said=ack("received", received=TOLD_US), worker=DEAD),
            Cause.STOPPING,
        ),
        (
            found(intent=INTENT._replace(receivers=0), worker=DEAD),
            Cause.WORKER_LOST,
        ),
    ],
)
def test_a_straggler_has_the_first_cause_that_is_true(one: Found, cause: Cause) -> None:
    report = report_on(OPERATION, one)
    assert [(one.execution_id, one.depth, one.cause) for one in report.still_running] == [("leaf", 3, cause)]
    assert report.totals.still_running == 1


@pytest.mark.parametrize("word", [word for word in Disposition if word.settled])
def test_what_is_settled_is_not_still_running(word: Disposition) -> None:
    report = report_on(OPERATION, found(said=ack(word, settled=NOW_US)))
    assert report.still_running == ()
    assert (report.totals.settled, report.dispositions) == (1, {str(word): 1})


def test_what_is_to_be_told_counts_while_the_walk_goes_on() -> None:
    waiting = found(CLAIMED._replace(status="running"), intent=None)
    walking = report_on(replace(OPERATION, phase="walking"), waiting)
    (one,) = walking.still_running
    assert (one.published_at, one.attempts, one.disposition) == (None, 0, Disposition.ASKED)
    assert report_on(OPERATION, waiting).still_running == ()


def test_what_had_ended_before_is_skipped() -> None:
    report = report_on(OPERATION, found(UNCLAIMED._replace(status="succeeded"), intent=None))
    assert (report.totals.skipped, report.totals.cancelled, report.totals.still_running) == (1, 0, 0)


def test_t14_a_held_one_that_someone_else_called_ended_is_still_running() -> None:
    report = report_on(OPERATION, found(CLAIMED._replace(status="timeout")))
    assert report.totals.still_running == 1


def test_past_the_deadline_it_is_overdue_and_keeps_its_cause() -> None:
    late = replace(OPERATION, deadline_us=NOW_US - 1)
    report = report_on(late, found())
    assert report.overdue
    assert [(one.overdue, one.cause) for one in report.still_running] == [(True, Cause.NO_ACK)]
    assert not report_on(late, found(said=ack("stopped", settled=NOW_US))).overdue


def test_lag_counts_from_the_message_and_only_what_was_told() -> None:
    said = ack("stopped", received=TOLD_US + 2_000, settled=TOLD_US + 7_000)
    report = report_on(OPERATION, found(said=said))
    assert (report.ack_lag.received.count, report.ack_lag.received.p50_ms) == (1, 2.0)
    assert (report.ack_lag.stopped.count, report.ack_lag.stopped.max_ms) == (1, 7.0)
    never = report_on(OPERATION, found(said=ack("never_started", settled=TOLD_US)))
    assert (never.ack_lag.received.count, never.ack_lag.stopped.count) == (0, 0)


def test_t32_a_clock_that_stepped_back_gives_no_negative_lag() -> None:
    report = report_on(OPERATION, found(said=ack("stopped", settled=TOLD_US - 5_000)))
    assert report.ack_lag.stopped.max_ms == 0.0


def test_percentiles_are_nearest_rank() -> None:
    lag = percentiles([float(value) for value in range(1, 101)])
    assert (lag.count, lag.p50_ms, lag.p99_ms, lag.max_ms) == (100, 50.0, 99.0, 100.0)
    assert percentiles([]) == (percentiles([]).__class__(0, 0.0, 0.0, 0.0))
    assert percentiles([3.0]).p99_ms == 3.0
