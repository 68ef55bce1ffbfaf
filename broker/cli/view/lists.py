"""Tables: a run's log, the operators' list, the workers."""

from __future__ import annotations

from collections.abc import Sequence

from broker.cli.terminal import Paint
from broker.cli.view.report import target_of
from broker.cli.view.words import columns, count, counts, duration, quoted
from broker.cli.visible import visible
from broker.protocol.http.answers import (
    AuditEntryAnswer,
    CancellationAnswer,
    DeadEventAnswer,
    ReplayAnswer,
    WorkerAnswer,
)

EVENT_SHOWN = 200
"""Characters of a refused event; with --json it is all there."""


def log_lines(entries: Sequence[AuditEntryAnswer], paint: Paint) -> list[str]:
    """An entry a line, oldest first."""
    if not entries:
        return ["No entries: nothing was decided about this run"]
    rows = [(visible(one.at), visible(one.event), visible(one.cancel_id or "-"), _said(one)) for one in entries]
    return columns([("at", "event", "cancel", "detail"), *rows], paint)


def _said(entry: AuditEntryAnswer) -> str:
    """The detail, who, and why, as far as they are known."""
    by = f"by {visible(entry.by)}" if entry.by else ""
    why = f"because {quoted(entry.reason)}" if entry.reason else ""
    return " ".join(part for part in (visible(entry.detail or ""), by, why) if part)


def cancellation_lines(listed: Sequence[CancellationAnswer], state: str, paint: Paint) -> list[str]:
    """An operation a line, after the sums."""
    if not listed:
        return [f"No {visible(state)} cancels" if state != "all" else "No cancels"]
    outstanding = sum(one.outstanding for one in listed)
    oldest_ms = max(one.oldest_age_ms for one in listed)
    title = f"{count(len(listed), 'cancel')}, {count(outstanding, 'execution')} still running"
    if outstanding:
        title += f", the oldest for {duration(oldest_ms)}"
    head = ("cancel", "state", "running", "oldest", "causes", "of")
    return [title, *columns([head, *map(_cancellation, listed)], paint)]


def worker_lines(workers: Sequence[WorkerAnswer], paint: Paint) -> list[str]:
    """A worker process a line. One that is silent is not gone: that needs proof, or somebody who declares it."""
    if not workers:
        return ["No workers: none has sent a heartbeat"]
    head = ("worker", "incarnation", "state", "held", "last seen", "agent node")
    return columns([head, *map(_worker, workers)], paint)


def dead_event_lines(events: Sequence[DeadEventAnswer], paint: Paint) -> list[str]:
    """A refused event: a line of the table, and below it what it was."""
    if not events:
        return ["No dead events: everything that was said could be applied"]
    rows = [(visible(one.dead_id), visible(one.refused_at), visible(one.error), visible(one.message)) for one in events]
    head, *lines = columns([("id", "at", "code", "reason"), *rows], paint)
    shown = [(line, f"  {_shortened(one.event)}") for line, one in zip(lines, events, strict=True)]
    return [head, *(line for pair in shown for line in pair)]


def replay_lines(answer: ReplayAnswer) -> list[str]:
    """How many went back, and each that did not."""
    if not answer.replayed and not answer.refused:
        return ["No dead events to replay"]
    refused = [f"Not replayed: {visible(one.dead_id)}: {visible(one.message)}" for one in answer.refused]
    return [f"{count(len(answer.replayed), 'event')} replayed", *refused]


def _shortened(event: str) -> str:
    text = visible(event[: EVENT_SHOWN + 1])
    return text if len(event) <= EVENT_SHOWN else f"{text[:EVENT_SHOWN]}… ({len(event):,} characters)"


def _cancellation(one: CancellationAnswer) -> tuple[str, ...]:
    of = target_of(one.scope, one.target, one.run_id)
    by = f" by {visible(one.requested_by)}" if one.requested_by else ""
    why = f", reason {quoted(one.reason)}" if one.reason else ""
    state = "overdue" if one.overdue and one.state != "settled" else visible(one.state)
    oldest = duration(one.oldest_age_ms) if one.outstanding else "-"
    return visible(one.cancel_id), state, str(one.outstanding), oldest, counts(one.causes) or "-", of + by + why


def _worker(one: WorkerAnswer) -> tuple[str, ...]:
    return (
        visible(one.worker_id),
        str(one.incarnation),
        "alive" if one.alive else "silent",
        "?" if one.held is None else str(one.held),
        f"{duration(one.last_seen_ms)} ago",
        visible(one.agent_node_id or "-"),
    )
