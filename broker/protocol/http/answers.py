"""What the server answers. The first two are the AgentField-compatible pair: their order of fields is the wire's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of all answers: written without what is None."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ErrorAnswer(Answer):
    """`error` is a stable code of `broker.errors`, or the compatible pair's own text; `message` is for people."""

    error: str
    message: str | None = None


class NodeAnswer(Answer):
    """One execution of a cancel-tree, in the order of the walk."""

    execution_id: str
    agent_node_id: str | None = None
    reasoner_id: str | None = None
    workflow_depth: int
    previous_status: str
    status: str
    skip_reason: str | None = None
    disposition: str | None = None


class CancelExecutionAnswer(Answer):
    """`POST /executions/{execution_id}/cancel`."""

    execution_id: str
    previous_status: str
    status: str = "cancelled"
    reason: str | None = None
    cancelled_at: str
    scope: str = "execution"
    run_id: str | None = None
    remaining_active_in_run: int | None = None
    suggested_endpoint: str | None = None
    warning: str | None = None
    cancel_id: str
    settled_count: int
    still_running_count: int
    report_endpoint: str
    disposition: str | None = None


class CancelTreeAnswer(Answer):
    """`POST /workflows/{run_id}/cancel-tree`; with `scope` and `execution_id` also that of cancel-subtree."""

    run_id: str | None = None
    scope: str | None = None
    execution_id: str | None = None
    total_nodes: int
    cancelled_count: int
    skipped_count: int
    error_count: int
    nodes: list[NodeAnswer] | None = None
    cancelled_at: str
    cancel_id: str
    settled_count: int
    still_running_count: int
    report_endpoint: str


class RefusedAnswer(Answer):
    """`error` is a code."""

    execution_id: str
    error: str


class RegisteredAnswer(Answer):
    """Those refused with `run_cancelled` are recorded (status cancelled), and not counted."""

    registered: int
    refused: list[RefusedAnswer]


class ClaimAnswer(Answer):
    """Who holds an execution: `start` is the number of the claim."""

    worker_id: str
    incarnation: int
    start: int


class ExecutionAnswer(Answer):
    """One execution. `status` is the effective one: what a closed gate covers reads cancelled."""

    execution_id: str
    run_id: str | None = None
    parent_execution_id: str | None = None
    agent_node_id: str | None = None
    reasoner_id: str | None = None
    depth: int
    status: str
    status_reason: str | None = None
    disposition: str | None = None
    cause: str | None = None
    outcome: str | None = None
    detail: str | None = None
    cancel_id: str | None = None
    claim: ClaimAnswer | None = None
    registered_at: str | None = None
    started_at: str | None = None
    published_at: str | None = None
    received_at: str | None = None
    settled_at: str | None = None


class RunAnswer(Answer):
    """A page of a run, oldest first. `next_cursor` asks for the next one; absent: this was the last."""

    run_id: str
    workflow_status: str
    total_nodes: int
    nodes: list[ExecutionAnswer]
    next_cursor: str | None = None


class PreviewAnswer(Answer):
    """What a cancel would touch; nothing was changed."""

    run_id: str | None = None
    scope: str
    target: str | None = None
    total_nodes: int
    would_cancel: int
    nodes: list[NodeAnswer] | None = None


class TotalsAnswer(Answer):
    """Numbers of executions in the operation's scope."""

    executions: int
    cancelled: int
    skipped: int
    errors: int
    settled: int
    still_running: int


class StragglerAnswer(Answer):
    """One execution that is still running. `published_at` absent: its turn to be told has not come."""

    execution_id: str
    depth: int
    agent_node_id: str | None = None
    worker_id: str | None = None
    disposition: str
    cause: str
    overdue: bool
    published_at: str | None = None
    attempts: int
    age_ms: int
    worker_last_seen_ms: int | None = None
    detail: str | None = None


class LagAnswer(Answer):
    """Nearest-rank percentiles over `count` samples; all 0 where there is none."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class AckLagAnswer(Answer):
    """From the message until its worker had heard, and until the work had ended."""

    received: LagAnswer
    stopped: LagAnswer


class DurabilityAnswer(Answer):
    """How many replicas had the intent when the gate was closed, where that was asked for."""

    wanted: int
    reached: int


class ReportAnswer(Answer):
    """One cancel operation. `still_running` is a page of at most 1,000, deepest first; `next_cursor` asks on."""

    run_id: str | None = None
    cancel_id: str
    scope: str
    target: str | None = None
    state: str
    overdue: bool
    reason: str | None = None
    requested_by: str | None = None
    requested_at: str
    settled_at: str | None = None
    deadline_at: str
    durability: DurabilityAnswer | None = None
    totals: TotalsAnswer
    dispositions: dict[str, int]
    still_running: list[StragglerAnswer]
    still_running_truncated: bool
    next_cursor: str | None = None
    ack_lag: AckLagAnswer


class CancellationAnswer(Answer):
    """One operation of the operators' list; `causes` counts what is outstanding by why."""

    run_id: str | None = None
    cancel_id: str
    scope: str
    target: str | None = None
    state: str
    overdue: bool
    reason: str | None = None
    requested_by: str | None = None
    requested_at: str
    deadline_at: str
    settled_at: str | None = None
    outstanding: int
    oldest_age_ms: int
    causes: dict[str, int]


class CancellationsAnswer(Answer):
    """`outstanding` counts executions, over all operations listed here."""

    cancellations: list[CancellationAnswer]
    outstanding: int
    oldest_age_ms: int
    next_cursor: str | None = None


class WorkerAnswer(Answer):
    """One worker process, as its last heartbeat said. `last_seen_ms` is the age of that heartbeat."""

    worker_id: str
    incarnation: int
    agent_node_id: str | None = None
    alive: bool
    held: int | None = None
    last_seen_ms: int


class WorkersAnswer(Answer):
    workers: list[WorkerAnswer]
    next_cursor: str | None = None


class DeadAnswer(Answer):
    """`incarnation`: whatever this worker claimed up to it is settled as lost, at the next look of a sweep."""

    worker_id: str
    incarnation: int


class AuditEntryAnswer(Answer):
    """One line of a run's log: what was decided, when, by whom."""

    at: str
    event: str
    cancel_id: str | None = None
    by: str | None = None
    reason: str | None = None
    detail: str | None = None


class AuditAnswer(Answer):
    """Oldest first; about the last 1,000 are kept."""

    run_id: str
    entries: list[AuditEntryAnswer]
    next_cursor: str | None = None


class IntentAnswer(Answer):
    """The durable cancel of one execution, as a worker without Redis gets it."""

    run_id: str | None = None
    execution_id: str
    cancel_id: str
    start: int
    attempt: int
    force: bool
    source: str | None = None
    reason: str | None = None
    requested_by: str | None = None
    published_at: str | None = None
    deadline_at: str | None = None
    grace_ms: int | None = None


class StartedAnswer(Answer):
    """`code` is `claimed` (run it, with this start number) or `cancelled` (do not run it, there is nothing to ack).

    A `start` above 0 beside `cancelled`: the answer to an earlier start was lost; `finish` gives its claim back.
    """

    code: str
    start: int
    intent: IntentAnswer | None = None


class CodeAnswer(Answer):
    """What became of a finish or an ack: a word of the wire document."""

    code: str


class SupersededAnswer(Answer):
    """An execution that this worker holds and another claim, number `start`, has replaced: stop it, ack nothing."""

    run_id: str | None = None
    execution_id: str
    start: int


class HeartbeatAnswer(Answer):
    """`fenced`: a newer process has this worker id; stop what you hold. `incarnation` is yours from now on.

    `intents` are those that are not settled, acked or not.
    """

    incarnation: int
    fenced: bool
    intents: list[IntentAnswer]
    superseded: list[SupersededAnswer] = Field(default_factory=list)


class RefusedEventAnswer(Answer):
    """`index` counts from 0 in the body."""

    index: int
    error: str
    message: str


class EventsAnswer(Answer):
    """`accepted` are durable in the stream; what was refused is not."""

    accepted: int
    refused: list[RefusedEventAnswer] = Field(default_factory=list)


class DeadEventAnswer(Answer):
    """An event that could not be applied. `source_id` was its id in the stream; with `cut` it is not all there."""

    dead_id: str
    source_id: str
    refused_at: str
    error: str
    message: str
    event: str
    cut: bool = False


class DeadEventsAnswer(Answer):
    """A page of refused events, oldest first."""

    events: list[DeadEventAnswer]
    next_cursor: str | None = None


class ReplayedEventAnswer(Answer):
    """A refused event that is on the stream again, with its new id there."""

    dead_id: str
    entry_id: str


class NotReplayedAnswer(Answer):
    """One that is still where it was, or was not there."""

    dead_id: str
    error: str
    message: str


class ReplayAnswer(Answer):
    """What became of each, in the order given."""

    replayed: list[ReplayedEventAnswer] = Field(default_factory=list)
    refused: list[NotReplayedAnswer] = Field(default_factory=list)


class HealthAnswer(Answer):
    """`checks` says for each part "ok", or what is wrong."""

    status: str
    checks: dict[str, str] = Field(default_factory=dict)
