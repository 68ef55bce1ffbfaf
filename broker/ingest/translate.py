"""What events say, in the words of the store: reports, claims, acks and the terms of cancels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from broker.protocol.events import AckEvent, CancelRequested, Event, RunCancelRequested, StatusEvent
from broker.protocol.names import CANCEL_TEXT_LIMIT, ID_LIMIT, clean_text
from broker.protocol.records import LATEST_US
from broker.protocol.states import Order, is_terminal
from broker.store.claims import Ack, Holder
from broker.store.operations import CancelTerms
from broker.store.reports import Report, event_stamp

E = TypeVar("E", bound=Event)


class Sourced(NamedTuple, Generic[E]):
    """An event and its id in the stream."""

    entry_id: str
    event: E


def only(kind: type[E], step: Iterable[Sourced[Event]]) -> list[Sourced[E]]:
    """Those of one kind, in their order."""
    return [Sourced(one.entry_id, one.event) for one in step if isinstance(one.event, kind)]


def steps(batch: Sequence[Sourced[Event]]) -> Iterator[list[Sourced[Event]]]:
    """What goes together, in the order of the stream: statuses, acks, and each cancel alone.

    A status that turns out to be a cancel ends its step: what comes after it comes after the cancel.
    """
    step: list[Sourced[Event]] = []
    for one in batch:
        if step and (type(step[-1].event) is not type(one.event) or _is_cancel(step[-1].event)):
            yield step
            step = []
        step.append(one)
    if step:
        yield step


def _is_cancel(event: Event) -> bool:
    if isinstance(event, StatusEvent):
        return event.type == "execution.cancelled" and not event.worker_id
    return isinstance(event, CancelRequested)


def stamp_of(one: Sourced[StatusEvent] | Sourced[AckEvent]) -> str:
    """When it was so: what the event says, but never later than it was published; the stream id decides ties."""
    ms, _, number = one.entry_id.partition("-")
    published_us = min(int(ms) * 1000 + 999, LATEST_US)
    occurred_us = min(one.event.occurred_us or published_us, published_us)
    created = isinstance(one.event, StatusEvent) and (one.event.type == "execution.created" or not one.event.word)
    return event_stamp(0 if created else occurred_us, int(ms), int(number or 0))


def report_of(one: Sourced[StatusEvent]) -> Report:
    """A status event as the store takes it."""
    event = one.event
    started_us = event.started_us or (event.occurred_us if event.type == "execution.started" else None)
    return Report(
        event.execution_id,
        event.word or ("pending" if event.type == "execution.created" else ""),
        event.parent_execution_id or "",
        event.agent_node_id or "",
        event.reasoner_id or "",
        str(started_us) if started_us else "",
        stamp_of(one),
        event.worker_id or "",
        str(event.incarnation),
        str(event.start) if event.worker_id else "",
    )


def claim_of(one: Sourced[AckEvent], *, end: bool = False) -> Report:
    """The claim that an ack speaks of, or its end."""
    event = one.event
    return Report(
        event.execution_id,
        (event.outcome if event.outcome and is_terminal(event.outcome) else "cancelled") if end else "running",
        stamp=stamp_of(one),
        worker_id=event.worker_id,
        incarnation=str(event.incarnation),
        start=str(event.start),
    )


def holder_of(one: Sourced[AckEvent]) -> Holder:
    """Who acknowledges."""
    return Holder(one.event.worker_id, one.event.incarnation)


def ack_of(one: Sourced[AckEvent]) -> Ack:
    """What is said of the cancel."""
    event = one.event
    return Ack(event.execution_id, event.start, event.seq, event.disposition, event.outcome or "", event.detail or "")


def cancel_terms_of(event: CancelRequested) -> CancelTerms:
    """What was asked for by event. The same scope and target are the same operation, so a redelivery is a repeat."""
    return CancelTerms(
        scope=event.scope,
        target="" if isinstance(event, RunCancelRequested) else event.execution_id,
        order=Order(event.order),
        reason=clean_text(event.reason, "reason", CANCEL_TEXT_LIMIT),
        requested_by=clean_text(event.requested_by, "requested_by", CANCEL_TEXT_LIMIT),
        deadline_us=event.deadline_ms * 1000,
        give_up_us=event.give_up_ms * 1000,
        force_after_us=None if event.force_after_ms is None else event.force_after_ms * 1000,
        grace_us=None if event.grace_ms is None else event.grace_ms * 1000,
        idempotency_key=clean_text(event.idempotency_key, "idempotency_key", ID_LIMIT) or "",
        allow_unknown=True,
    )
