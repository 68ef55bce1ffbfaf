"""Pure: what people and control planes are shown of executions, runs and operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from broker.cancel.report import Evidence, cause_of, disposition_of
from broker.protocol.names import public_run
from broker.protocol.records import ExecutionRecord, Facts, OperationRecord, as_time, stamp, unescape
from broker.protocol.states import Cause, Disposition, Scope, Status, normalise


@dataclass(frozen=True, slots=True)
class Claim:
    """Who holds an execution; `start` is the number of the claim."""

    worker_id: str
    incarnation: int
    start: int


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """One execution. `status` is the effective one: what a closed gate covers reads cancelled.

    `status_reason`, `cancel_id` and what follows them are None unless it was cancelled; `cause` says why it is
    still running. Times are Redis's, in UTC.
    """

    execution_id: str
    run_id: str | None
    parent_execution_id: str | None
    agent_node_id: str | None
    reasoner_id: str | None
    depth: int
    status: Status
    status_reason: str | None
    cancel_id: str | None
    disposition: Disposition | None
    cause: Cause | None
    outcome: str | None
    detail: str | None
    claim: Claim | None
    registered_at: datetime | None
    started_at: datetime | None
    published_at: datetime | None
    received_at: datetime | None
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunView:
    """A page of a run, oldest first; `total_nodes` counts all. `next_cursor` None: this was the last page."""

    run_id: str
    workflow_status: Status
    total_nodes: int
    nodes: tuple[ExecutionView, ...]
    next_cursor: int | None


@dataclass(frozen=True, slots=True)
class CancellationView:
    """One operation in the operators' list. `oldest_age` is in seconds.

    `causes` counts the stragglers that wait longest by why, the rest as `not_read`: 1,000 are looked at, fewer of
    each where one answer lists more than ten runs.
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
    deadline_at: datetime
    settled_at: datetime | None
    outstanding: int
    oldest_age: float
    causes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Cancellations:
    """A page of operations, oldest first. `next_cursor` None: this was the last page."""

    cancellations: tuple[CancellationView, ...]
    next_cursor: int | None


def effective_status(record: ExecutionRecord | Facts, covering: str | None) -> Status:
    """The status that counts: a closed gate has decided, also where its walk has not come by."""
    status = normalise(record.raw_status)
    return Status.CANCELLED if covering and not status.terminal else status


def workflow_status(statuses: Iterable[Status]) -> Status:
    """One word for a run: paused, then running for whatever has not ended, then the worst end."""
    found = set(statuses)
    if Status.PAUSED in found:
        return Status.PAUSED
    if any(not status.terminal for status in found):
        return Status.RUNNING
    worst = (Status.FAILED, Status.TIMEOUT, Status.CANCELLED)
    return next((status for status in worst if status in found), Status.SUCCEEDED)


def view_execution(
    run_id: str, execution_id: str, evidence: Evidence, operation: OperationRecord | None
) -> ExecutionView:
    """One execution of what was read; `operation` is the one that cancelled it, or that covers it."""
    record, intent = evidence.executions[execution_id], evidence.intents.get(execution_id)
    ack = evidence.acks.get(execution_id)
    disposition = disposition_of(ack) if intent else None
    running = disposition is not None and not disposition.settled
    status = effective_status(record, operation.cancel_id if operation else None)
    if intent is None and status is not Status.CANCELLED:
        operation = None  # it had ended before a gate closed over it: no cancel has anything to do with it
    worker_id = evidence.worker_of_slot.get(record.slot) if record.slot else None
    worker = evidence.workers.get(worker_id) if worker_id else None
    return ExecutionView(
        execution_id=execution_id,
        run_id=public_run(run_id),
        parent_execution_id=record.parent_execution_id or None,
        agent_node_id=record.agent_node_id or None,
        reasoner_id=unescape(record.reasoner_id) or None,
        depth=evidence.depths.get(execution_id, 0),
        status=status,
        status_reason=operation.reason if operation else None,
        cancel_id=(intent.cancel_id if intent else None) or (operation.cancel_id if operation else None),
        disposition=disposition,
        cause=cause_of(record, intent, ack, worker) if running else None,
        outcome=unescape(ack.outcome) or None if ack else None,
        detail=unescape(ack.detail) or None if ack else None,
        claim=Claim(worker_id, int(record.incarnation or 0), int(record.start)) if worker_id else None,
        registered_at=as_time(stamp(record.registered_at_us)),
        started_at=as_time(stamp(record.started_at_us)),
        published_at=as_time(intent.published_at_us) if intent else None,
        received_at=as_time(stamp(ack.received_at_us)) if ack else None,
        settled_at=as_time(stamp(ack.settled_at_us)) if ack else None,
    )
