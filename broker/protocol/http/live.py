"""The bodies of the events that a run's stream is made of: the `data` of each, by the name in `event`."""

from __future__ import annotations

from broker.protocol.http.answers import Answer, AuditEntryAnswer


class AckEvent(Answer):
    """`ack`: what was said of one execution. `at` is Redis's time, to the microsecond.

    `replayed`: read from the records. The same execution, disposition and `at` may have been sent before.
    """

    execution_id: str
    disposition: str
    at: str
    replayed: bool | None = None


class LiveOperation(Answer):
    """One cancel operation as it stands."""

    cancel_id: str
    scope: str
    target: str | None = None
    state: str
    phase: str
    overdue: bool
    given_up: bool
    reason: str | None = None
    requested_by: str | None = None
    requested_at: str
    deadline_at: str
    settled_at: str | None = None


class OperationEvent(LiveOperation):
    """`operation`: it has changed. `outstanding` executions of the run are told and not settled."""

    outstanding: int


class SnapshotEvent(Answer):
    """`snapshot`: how things stand; the first event, and again when events could not be sent.

    `why` is `start`; `slow`: this client was too slow, events before this one were dropped; `missed`: the server was
    cut off from Redis, and what happened meanwhile follows, replayed. `dispositions` counts what was said.
    """

    run_id: str
    why: str
    at: str
    operations: list[LiveOperation]
    dispositions: dict[str, int]
    outstanding: int


class AuditEvent(AuditEntryAnswer):
    """`audit`: an entry of the run's log. `by` is who asked, or the process that took over."""


class SettledEvent(Answer):
    """`settled`: the last event of a stream with `until=settled`."""

    run_id: str
