"""Names of the log events, written down once: what someone searches for, or counts in a log.

`x.started`, `x.complete` and `x.failed` are one thing from its begin to its end; other names say what happened.
"""

from __future__ import annotations

from typing import Final

CANCEL_STARTED: Final = "cancel.started"
"""A cancel is durable and its gate is closed: run, cancel id, scope, who, why."""
CANCEL_COMPLETE: Final = "cancel.complete"
"""The canonical line of a cancel that is settled: what was asked, by whom, how each ended, how long it took."""
CANCEL_FAILED: Final = "cancel.drive.failed"
"""Whoever drove a cancel has ended with an error; the sweep of any replica takes it over."""

EVENTS: Final = frozenset({
    CANCEL_STARTED, CANCEL_COMPLETE, CANCEL_FAILED,
    "cancel.end_walk.failed", "cancel.given_up", "cancel.hand_over.failed", "execution.lost", "worker.fenced",
    "cancel.lease.failed", "cancel.memory.full", "cancel.overdue", "cancel.prune.failed",
    "cancel.reassert.failed", "cancel.reassert.retried", "cancel.reasserted",
    "cancel.superseded", "cancel.takeover", "cancel.undeliverable", "cancel.wait.failed", "cancel.walk_again",
    "commands.disconnect.failed", "commands.failed", "commands.new_server", "compatible.failed",
    "execution.finish.delayed", "execution.finish.late", "execution.ghost", "execution.not_held",
    "heartbeat.failed", "ingest.cancel.accepted", "ingest.cancel.terminal", "ingest.consumer.forgotten",
    "ingest.dead", "ingest.failed", "ingest.leave.failed", "ingest.refused", "ingest.taken_over", "ingest.waiting",
    "intents.read.failed", "live.look.failed", "stream.ended",
    "listener.failed", "message.refused", "metrics.failed", "on_cancel.failed",
    "redis.check.failed", "redis.unsafe", "replication.failed", "replication.unknown",
    "replication.waitaof.refused", "report.count.failed", "request", "request.crashed", "request.failed",
    "subscriptions.callback.failed", "subscriptions.canary.failed", "subscriptions.close.complete",
    "subscriptions.connect.complete", "subscriptions.connect.failed", "subscriptions.handler.failed",
    "subscriptions.reap.failed", "subscriptions.supervisor.failed", "sweep.failed", "sweep.look.failed",
    "worker.declared_dead", "worker.leave.failed", "worker.refused", "worker.restore.failed",
    "worker.restore.started",
})  # fmt: skip
"""Every name that is logged; a test holds this against the code."""
