"""Pure: events of a run → text/event-stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import Iterable

from broker.cancel.live.events import Acked, Event, OperationChanged, Place, Placed, Snapshot
from broker.protocol.http import live as http
from broker.protocol.http.answers import Answer
from broker.protocol.records import OperationRecord, as_time, rfc3339

MEDIA_TYPE = "text/event-stream"
RETRY_MS = 1000
OPENING = f"retry: {RETRY_MS}\n\n".encode()
HEARTBEAT = b": still here\n\n"


def encode(run_id: str, placed: Iterable[Placed]) -> bytes:
    """JSON has no line breaks, and what an id is made of has none either."""
    return "".join(_event(place, *_named(run_id, event)) for place, event in placed).encode()


def encode_settled(run_id: str) -> bytes:
    return _event(None, "settled", http.SettledEvent(run_id=run_id)).encode()


def _event(place: Place | None, name: str, body: Answer) -> str:
    place_line = "" if place is None else f"id: {place}\n"
    return f"{place_line}event: {name}\ndata: {body.model_dump_json(exclude_none=True)}\n\n"


def _named(run_id: str, event: Event) -> tuple[str, Answer]:
    if isinstance(event, Acked):
        return "ack", http.AckEvent(
            execution_id=event.execution_id,
            disposition=event.disposition,
            at=rfc3339(as_time(event.at_us)),
            replayed=event.replayed or None,
        )
    if isinstance(event, OperationChanged):
        operation = _operation(event.operation).model_dump()
        return "operation", http.OperationEvent(**operation, outstanding=event.outstanding)
    if isinstance(event, Snapshot):
        return "snapshot", _snapshot(run_id, event)
    entry = event.entry
    return "audit", http.AuditEvent(
        at=rfc3339(as_time(entry.at_us)),
        event=entry.event,
        cancel_id=entry.cancel_id,
        detail=entry.detail or None,
        by=entry.by,
        reason=entry.reason,
    )


def _snapshot(run_id: str, event: Snapshot) -> http.SnapshotEvent:
    return http.SnapshotEvent(
        run_id=run_id,
        why=event.why,
        at=rfc3339(as_time(event.at_us)),
        operations=list(map(_operation, event.operations)),
        dispositions=dict(event.dispositions),
        outstanding=event.outstanding,
    )


def _operation(record: OperationRecord) -> http.LiveOperation:
    settled_at = as_time(record.settled_at_us)
    return http.LiveOperation(
        cancel_id=record.cancel_id,
        scope=record.scope,
        target=record.target or None,
        state=record.state,
        phase=record.phase,
        overdue=record.state == "open" and "overdue" in record.remarked,
        given_up=record.state == "open" and "given_up" in record.remarked,
        reason=record.reason,
        requested_by=record.requested_by,
        requested_at=rfc3339(as_time(record.requested_at_us)),
        deadline_at=rfc3339(as_time(record.deadline_us)),
        settled_at=None if settled_at is None else rfc3339(settled_at),
    )
