"""The canonical line: one log event for each cancel that is settled, with all that an operator asks first."""

from __future__ import annotations

from broker.cancel.report import CancelReport
from broker.cancel.survey import Survey
from broker.observe import signals
from broker.observe.events import CANCEL_COMPLETE
from broker.observe.log import get_logger
from broker.protocol.records import OperationRecord
from broker.store.operations import Operations
from broker.store.reads import Reads

log = get_logger("broker.cancel")


class Summary:
    """Writes the line of a settlement, once however many replicas look at the operation.

    It is noted before it is written: a process that dies between the two leaves the settlement without a line (the
    audit of the run has it all the same), and never with two. A cancel that is open again and settles has another.
    """

    def __init__(self, operations: Operations, reads: Reads) -> None:
        self._operations = operations
        self._survey = Survey(reads, operations)

    async def write(self, run_id: str, operation: OperationRecord) -> None:
        """`operation` is settled, and this process has its lease."""
        if not await self._operations.remark(run_id, operation, "summed_up", ""):
            return
        await signals.reached("cancel.summing_up", operation.cancel_id)
        report = await self._survey.report(run_id, operation.cancel_id)
        log.info(CANCEL_COMPLETE, **fields_of(report))


def fields_of(report: CancelReport) -> dict[str, object]:
    """What the line says. Durations in milliseconds."""
    lag = report.ack_lag
    took = None if report.settled_at is None else (report.settled_at - report.requested_at).total_seconds() * 1000
    return {
        "run_id": report.run_id,
        "cancel_id": report.cancel_id,
        "scope": report.scope.value,
        "target": report.target,
        "requested_by": report.requested_by,
        "reason": report.reason,
        "executions": report.totals.executions,
        "cancelled": report.totals.cancelled,
        "skipped": report.totals.skipped,
        "dispositions": dict(sorted(report.dispositions.items())),
        "received_p50_ms": lag.received.p50_ms,
        "received_p99_ms": lag.received.p99_ms,
        "stopped_p50_ms": lag.stopped.p50_ms,
        "stopped_p99_ms": lag.stopped.p99_ms,
        "stopped_max_ms": lag.stopped.max_ms,
        "duration_ms": None if took is None else round(took, 3),
    }
