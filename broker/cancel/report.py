"""Pure: the records of a run → who was cancelled, who is still running and why, and how long it took.

No Redis, no clock: the caller passes what it read and the Redis time at which it read it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.protocol.names import public_run
from broker.protocol.records import (
    AckRecord,
    Durability,
    ExecutionRecord,
    IntentRecord,
    OperationRecord,
    as_time,
    stamp,
    unescape,
)
from broker.protocol.states import Cause, Disposition, Scope, is_terminal

STILL_RUNNING_LISTED = 1000


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What one cancel did with one execution, in the order of the walk.

    `status` is `cancelled`, `skipped`, `error`, or the terminal status that it had; `skip_reason` is
    `terminal`, `raced_to_terminal` or the text of the error.
    """

    execution_id: str
    depth: int
    previous_status: str
    status: str
    skip_reason: str | None = None
    agent_node_id: str | None = None
    reasoner_id: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """One execution that is still running although it was cancelled. `age` in seconds since it was told.

    `published_at` is None and `attempts` 0 where its turn to be told has not come.
    """

    execution_id: str
    depth: int
    disposition: Disposition
    cause: Cause
    overdue: bool
    worker_id: str | None
    agent_node_id: str | None
    published_at: datetime | None
    attempts: int
    age: float
    worker_last_seen: float | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Lag:
    """Ack lag in milliseconds, by Redis's clock. `count` is the number of samples; all 0 where there is none.

    Percentiles are nearest-rank. What is still running gives no sample: read it beside `still_running`.
    """

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class AckLag:
    """From the message until its worker had heard, and until the work had ended."""

    received: Lag
    stopped: Lag


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of executions in the operation's scope."""

    executions: int
    cancelled: int
    skipped: int
    errors: int
    settled: int
    still_running: int


@dataclass(frozen=True, slots=True)
class CancelReport:
    """What is known of one cancel operation. Times are Redis's, to the microsecond, in UTC.

    `still_running` names at most the first 1,000, deepest first (`still_running_truncated`);
    `totals.still_running` counts all. `nodes` is what the walk of this call did, empty on a report
    that only reads; `repeated` says that there was such an operation before. `remaining_active_in_run`
    counts the other non-terminal executions of the run, None where they could not be counted. `told` has the
    disposition of each execution in scope that has an intent. `run_id` is None for an execution without a run.
    """

    run_id: str | None
    cancel_id: str
    scope: Scope
    target: str | None
    state: str
    overdue: bool
    reason: str | None
    requested_by: str | None
    requested_at: datetime
    settled_at: datetime | None
    deadline_at: datetime
    totals: Totals
    dispositions: Mapping[str, int]
    still_running: tuple[ExecutionReport, ...]
    still_running_truncated: bool
    ack_lag: AckLag
    remaining_active_in_run: int | None
    nodes: tuple[NodeResult, ...] = field(default=(), repr=False)
    repeated: bool = False
    durability: Durability | None = None
    told: Mapping[str, Disposition] = field(default_factory=dict, repr=False)

    @property
    def settled(self) -> bool:
        return self.state == "settled"


@dataclass(frozen=True, slots=True)
class Worker:
    """What the report needs of a worker: its heartbeat, if it ever had one."""

    worker_id: str
    alive: bool
    ever_seen: bool
    seen_at_us: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was read of a run: the executions in scope with their depths, and what was said of them.

    `deadlines` has the deadline of every operation of the run: what an earlier one told is late by that, too.
    """

    executions: Mapping[str, ExecutionRecord]
    depths: Mapping[str, int]
    intents: Mapping[str, IntentRecord]
    acks: Mapping[str, AckRecord]
    worker_of_slot: Mapping[str, str]
    workers: Mapping[str, Worker]
    now_us: int
    deadlines: Mapping[str, int] = field(default_factory=dict)


def build_report(
    run_id: str,
    operation: OperationRecord,
    evidence: Evidence,
    *,
    active_in_run: int | None = 0,
    nodes: tuple[NodeResult, ...] = (),
    repeated: bool = False,
    cursor: int = 0,
) -> CancelReport:
    """The report of one operation over the executions of its scope, whoever cancelled them.

    It names the 1,000 that still run from `cursor` on.
    """
    told = {one: disposition_of(evidence.acks.get(one)) for one in evidence.executions if one in evidence.intents}
    running = _stragglers(operation, evidence, told)
    return CancelReport(
        run_id=public_run(run_id),
        cancel_id=operation.cancel_id,
        scope=operation.scope,
        target=operation.target or None,
        state=operation.state,
        overdue=operation.state == "open" and any(one.overdue for one in running),
        reason=operation.reason,
        requested_by=operation.requested_by,
        requested_at=as_time(operation.requested_at_us),
        settled_at=as_time(operation.settled_at_us),
        deadline_at=as_time(operation.deadline_us),
        totals=_totals(evidence, told, nodes, len(running)),
        dispositions={str(disposition): count for disposition, count in Counter(told.values()).items()},
        still_running=tuple(running[cursor : cursor + STILL_RUNNING_LISTED]),
        still_running_truncated=len(running) > cursor + STILL_RUNNING_LISTED,
        ack_lag=_ack_lag(evidence, told),
        remaining_active_in_run=active_in_run,
        nodes=nodes,
        repeated=repeated,
        told=told,
    )


def _stragglers(
    operation: OperationRecord, evidence: Evidence, told: Mapping[str, Disposition]
) -> list[ExecutionReport]:
    """What is still running, deepest first, then longest."""
    running = [
        _still_running(one, operation, evidence)
        for one in evidence.executions
        if _is_still_running(one, operation, evidence, told)
    ]
    return sorted(running, key=lambda one: (-one.depth, -one.age, one.execution_id))


def disposition_of(ack: AckRecord | None) -> Disposition:
    """Nothing heard is `asked`; that is all that a missing ack means."""
    return Disposition(ack.disposition) if ack else Disposition.ASKED


def _is_still_running(
    execution_id: str, operation: OperationRecord, evidence: Evidence, told: Mapping[str, Disposition]
) -> bool:
    """Told and not settled, or to be told by a walk that has not come by yet."""
    if execution_id in told:
        return not told[execution_id].settled
    record = evidence.executions[execution_id]
    to_be_walked = operation.state == "open" and (operation.phase == "walking" or operation.dirty)
    goes_on = record.claimed or record.seen_to_run or not is_terminal(record.raw_status)
    return to_be_walked and goes_on


def _still_running(execution_id: str, operation: OperationRecord, evidence: Evidence) -> ExecutionReport:
    record = evidence.executions[execution_id]
    intent = evidence.intents.get(execution_id)
    ack = evidence.acks.get(execution_id)
    worker_id = evidence.worker_of_slot.get(record.slot) if record.slot else None
    worker = evidence.workers.get(worker_id) if worker_id else None
    published_us = intent.published_at_us if intent else None
    return ExecutionReport(
        execution_id=execution_id,
        depth=evidence.depths.get(execution_id, 0),
        disposition=disposition_of(ack),
        cause=cause_of(record, intent, ack, worker),
        overdue=evidence.now_us > _deadline_us(operation, intent, evidence),
        worker_id=worker_id,
        agent_node_id=record.agent_node_id or None,
        published_at=as_time(published_us),
        attempts=intent.attempt if intent else 0,
        age=_seconds(evidence.now_us, published_us or operation.requested_at_us),
        worker_last_seen=_seconds(evidence.now_us, worker.seen_at_us) if worker and worker.seen_at_us else None,
        detail=unescape(ack.detail) or None if ack else None,
    )


def _deadline_us(operation: OperationRecord, intent: IntentRecord | None, evidence: Evidence) -> int:
    """The earlier one of the operation's and of that which told it: adopting it buys no time (trap T21)."""
    told_us = evidence.deadlines.get(intent.cancel_id) if intent else None
    return operation.deadline_us if told_us is None else min(operation.deadline_us, told_us)


def cause_of(
    record: ExecutionRecord, intent: IntentRecord | None, ack: AckRecord | None, worker: Worker | None
) -> Cause:
    """Why it still runs: the first that is true, in the order of DESIGN section 2."""
    heard = {
        Disposition.REFUSED: Cause.REFUSED,
        Disposition.DEFERRED: Cause.DEFERRED,
        Disposition.RECEIVED: Cause.STOPPING,
    }.get(disposition_of(ack))
    if heard is not None:
        return heard
    if not record.claimed:
        return Cause.NO_WORKER
    if worker is not None and worker.ever_seen and not worker.alive and not record.by_event:
        return Cause.WORKER_LOST
    if intent is not None and intent.receivers == 0:
        return Cause.NOT_DELIVERED
    return Cause.NO_ACK


def _totals(
    evidence: Evidence, told: Mapping[str, Disposition], nodes: tuple[NodeResult, ...], still_running: int
) -> Totals:
    return Totals(
        executions=len(evidence.executions),
        cancelled=len(told),
        skipped=_count_skipped(evidence),
        errors=sum(node.status == "error" for node in nodes),
        settled=sum(disposition.settled for disposition in told.values()),
        still_running=still_running,
    )


def _count_skipped(evidence: Evidence) -> int:
    untold = (one for one in evidence.executions if one not in evidence.intents)
    return sum(is_terminal(evidence.executions[one].raw_status) for one in untold)


def _seconds(now_us: int, then_us: int) -> float:
    return max(0, now_us - then_us) / 1e6


def _ack_lag(evidence: Evidence, told: Iterable[str]) -> AckLag:
    """Published → heard, and published → ended; what was settled without being told has no lag.

    A proof of death is no answer: what is lost was heard if it ever said so, and its end is unknown (trap T35).
    """
    received: list[float] = []
    stopped: list[float] = []
    for one in told:
        ack = evidence.acks.get(one)
        if ack is None or ack.disposition == Disposition.NEVER_STARTED:
            continue
        ended_us = stamp(ack.settled_at_us) if ack.disposition != Disposition.LOST else None
        published_us = evidence.intents[one].published_at_us
        for at_us, samples in ((stamp(ack.received_at_us) or ended_us, received), (ended_us, stopped)):
            if at_us is not None and at_us != published_us:  # equal: settled by the script that wrote the intent
                samples.append(max(0, at_us - published_us) / 1000)
    return AckLag(percentiles(received), percentiles(stopped))


def percentiles(samples: list[float]) -> Lag:
    """Nearest-rank percentiles of samples in milliseconds."""
    if not samples:
        return Lag(0, 0.0, 0.0, 0.0)
    samples.sort()

    def rank(share: float) -> float:
        return samples[math.ceil(share * len(samples)) - 1]

    return Lag(len(samples), rank(0.5), rank(0.99), samples[-1])
