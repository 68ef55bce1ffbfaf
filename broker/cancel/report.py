"""Pure: the records of a run → who was cancelled, who is still running and why, and how long it took.

No Redis, no clock: the caller passes what it read and the Redis time at which it read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broker.cancel.nodes import NO_NODES, NodeResult, Nodes
from broker.cancel.tally import Tally
from broker.protocol.names import public_run
from broker.protocol.records import (
    AckRecord,
    Durability,
    ExecutionRecord,
    IntentRecord,
    OperationRecord,
    Parsed,
    as_time,
    unescape,
)
from broker.protocol.states import Cause, Disposition, Scope

STILL_RUNNING_LISTED = 1000


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
    nodes: Sequence[NodeResult] = field(default=(), repr=False)
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
    """What was read of some executions: their records, their depths, and what was said of them.

    `deadlines` has that of every operation that told some of them: what an earlier one told is late by that, too.
    """

    executions: Mapping[str, ExecutionRecord]
    depths: Mapping[str, int]
    intents: Mapping[str, IntentRecord]
    acks: Mapping[str, AckRecord]
    worker_of_slot: Mapping[str, str]
    workers: Mapping[str, Worker]
    now_us: int
    deadlines: Mapping[str, int] = field(default_factory=dict)


def evidence_of(
    tally: Tally,
    depths: Mapping[str, int],
    worker_of_slot: Mapping[str, str],
    workers: Mapping[str, Worker],
    now_us: int,
    deadlines: Mapping[str, int],
) -> Evidence:
    """The evidence of what still runs."""
    executions = Parsed(tally.running, ExecutionRecord.parse)
    intents, acks = Parsed(tally.intents, IntentRecord.parse), Parsed(tally.acks, AckRecord.parse)
    return Evidence(executions, depths, intents, acks, worker_of_slot, workers, now_us, deadlines)


def build_report(
    run_id: str,
    operation: OperationRecord,
    tally: Tally,
    evidence: Evidence,
    *,
    active_in_run: int | None = 0,
    nodes: Nodes = NO_NODES,
    repeated: bool = False,
    cursor: int = 0,
) -> CancelReport:
    """The report of one operation over the executions of its scope, whoever cancelled them.

    `evidence` is of what still runs, as the tally says. It names the 1,000 of them from `cursor` on.
    """
    running = len(evidence.executions)
    return CancelReport(
        run_id=public_run(run_id),
        cancel_id=operation.cancel_id,
        scope=operation.scope,
        target=operation.target or None,
        state=operation.state,
        overdue=operation.state == "open" and _any_overdue(operation, evidence),
        reason=operation.reason,
        requested_by=operation.requested_by,
        requested_at=as_time(operation.requested_at_us),
        settled_at=as_time(operation.settled_at_us),
        deadline_at=as_time(operation.deadline_us),
        totals=Totals(
            executions=tally.executions,
            cancelled=len(tally.told),
            skipped=tally.skipped,
            errors=nodes.errors,
            settled=tally.settled,
            still_running=running,
        ),
        dispositions=tally.dispositions,
        still_running=_stragglers(operation, evidence, cursor),
        still_running_truncated=running > cursor + STILL_RUNNING_LISTED,
        ack_lag=AckLag(lag_of(tally.received_us), lag_of(tally.stopped_us)),
        remaining_active_in_run=active_in_run,
        nodes=nodes,
        repeated=repeated,
        told=tally.told,
    )


def _stragglers(operation: OperationRecord, evidence: Evidence, cursor: int) -> tuple[ExecutionReport, ...]:
    """A page of what is still running, deepest first, then longest: there may be a million of them."""
    keys = []
    for one in evidence.executions:
        intent = evidence.intents.get(one)
        told_us = intent.published_at_us if intent else operation.requested_at_us
        keys.append((-evidence.depths.get(one, 0), -max(0, evidence.now_us - told_us), one))
    keys.sort()
    page = keys[cursor : cursor + STILL_RUNNING_LISTED]
    return tuple(_still_running(one, operation, evidence) for _, _, one in page)


def _any_overdue(operation: OperationRecord, evidence: Evidence) -> bool:
    """Each is late by its own deadline: `_deadline_us`."""
    intents = (evidence.intents.get(one) for one in evidence.executions)
    return any(evidence.now_us > _deadline_us(operation, intent, evidence) for intent in intents)


def disposition_of(ack: AckRecord | None) -> Disposition:
    """Nothing heard is `asked`; that is all that a missing ack means."""
    return Disposition(ack.disposition) if ack else Disposition.ASKED


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


def _seconds(now_us: int, then_us: int) -> float:
    return max(0, now_us - then_us) / 1e6


def lag_of(samples_us: Sequence[int]) -> Lag:
    """Percentiles of samples in microseconds."""
    return percentiles([one / 1000 for one in samples_us])


def percentiles(samples: list[float]) -> Lag:
    """Nearest-rank percentiles of samples in milliseconds."""
    if not samples:
        return Lag(0, 0.0, 0.0, 0.0)
    samples.sort()

    def rank(share: float) -> float:
        return samples[math.ceil(share * len(samples)) - 1]

    return Lag(len(samples), rank(0.5), rank(0.99), samples[-1])
