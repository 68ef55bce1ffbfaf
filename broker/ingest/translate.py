"""What events say, in the words of the store: reports, claims, acks and the terms of cancels. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeGuard, TypeVar

from broker.protocol.events import AckEvent, CancelRequested, Event, RunCancelRequested, StatusEvent
from broker.protocol.names import CANCEL_TEXT_LIMIT, ID_LIMIT, clean_text
from broker.protocol.records import LATEST_US
from broker.protocol.states import Order, Status, is_terminal, normalise
from broker.store.claims import Ack, Holder
from broker.store.operations import CancelTerms
from broker.store.reports import Report, event_stamp

Said = Report | AckEvent | CancelRequested
"""What an event says. A status is a report at once: a lane keeps many, and an event is ten times as large."""
S = TypeVar("S", bound=Said)


class Sourced(NamedTuple, Generic[S]):
    """What an event says, its id in the stream, and whom it speaks of: empty where that is a whole run."""

    entry_id: str
    execution_id: str
    said: S


def sourced(entry_id: str, event: Event) -> Sourced[Said]:
    if isinstance(event, StatusEvent):
        return Sourced(entry_id, event.execution_id, report_of(entry_id, event))
    return Sourced(entry_id, "" if isinstance(event, RunCancelRequested) else event.execution_id, event)


def steps(batch: Sequence[Sourced[Said]]) -> Iterator[list[Sourced[Said]]]:
    """What goes together, in the order of the stream: statuses, acks, and each cancel alone.

    A status that turns out to be a cancel ends its step: what comes after it comes after the cancel.
    """
    step: list[Sourced[Said]] = []
    kind: type[Said] | None = None
    for one in batch:
        said = one.said
        if type(said) is not kind and step:
            yield step
            step = []
        step.append(one)
        kind = None if _is_cancel(said) else type(said)
    if step:
        yield step


def are_reports(step: Sequence[Sourced[Said]]) -> TypeGuard[Sequence[Sourced[Report]]]:
    """A step has one kind of thing."""
    return isinstance(step[0].said, Report)


def are_acks(step: Sequence[Sourced[Said]]) -> TypeGuard[Sequence[Sourced[AckEvent]]]:
    return isinstance(step[0].said, AckEvent)


def _is_cancel(said: Said) -> bool:
    if isinstance(said, Report):
        return not said.worker_id and _means_cancelled(said.status)
    return not isinstance(said, AckEvent)


@lru_cache(maxsize=1024)
def _means_cancelled(word: str) -> bool:
    return normalise(word) is Status.CANCELLED


def stamp_of(entry_id: str, occurred_us: int | None) -> str:
    """When it was so: what the event says, but never later than it was published; the stream id decides ties."""
    ms, _, number = entry_id.partition("-")
    published_us = int(ms) * 1000 + 999
    if published_us > LATEST_US:
        published_us = LATEST_US
    if occurred_us is None or occurred_us > published_us:
        occurred_us = published_us
    return event_stamp(occurred_us, ms, number)


def report_of(entry_id: str, event: StatusEvent) -> Report:
    """A status event as the store takes it."""
    word, worker_id, occurred_us = event.word, event.worker_id, event.occurred_us
    created, started = event.type == "execution.created", event.type == "execution.started"
    started_us = event.started_us if event.started_at else None
    if started and started_us is None:
        started_us = occurred_us
    return Report(
        event.execution_id,
        word or ("pending" if created else ""),
        event.parent_execution_id or "",
        event.agent_node_id or "",
        event.reasoner_id or "",
        str(started_us) if started_us else "",
        stamp_of(entry_id, 0 if created or not word else occurred_us),
        worker_id or "",
        str(event.incarnation) if worker_id else "0",
        str(event.start) if worker_id else "",
    )


def claim_of(one: Sourced[AckEvent], *, end: bool = False) -> Report:
    """The claim that an ack speaks of, or its end."""
    event = one.said
    return Report(
        event.execution_id,
        (event.outcome if event.outcome and is_terminal(event.outcome) else "cancelled") if end else "running",
        stamp=stamp_of(one.entry_id, event.occurred_us),
        worker_id=event.worker_id,
        incarnation=str(event.incarnation),
        start=str(event.start),
    )


def holder_of(one: Sourced[AckEvent]) -> Holder:
    """Who acknowledges."""
    return Holder(one.said.worker_id, one.said.incarnation)


def ack_of(one: Sourced[AckEvent]) -> Ack:
    """What is said of the cancel."""
    event = one.said
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
