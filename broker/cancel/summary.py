"""The canonical line: one log event for each cancel that is settled, with all that an operator asks first."""

from __future__ import annotations

import asyncio

from broker.cancel.report import lag_of
from broker.cancel.survey import Survey
from broker.cancel.tally import Tally
from broker.observe import signals
from broker.observe.events import CANCEL_COMPLETE
from broker.observe.log import get_logger
from broker.protocol.names import public_run
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
        tally, settled = await asyncio.gather(
            self._survey.tally(run_id, operation), self._survey.operation(run_id, operation.cancel_id)
        )
        log.info(CANCEL_COMPLETE, **fields_of(run_id, settled, tally))


def fields_of(run_id: str, operation: OperationRecord, tally: Tally) -> dict[str, object]:
    """What the line says. Durations in milliseconds."""
    received, stopped = lag_of(tally.received_us), lag_of(tally.stopped_us)
    settled_at_us = operation.settled_at_us
    return {
        "run_id": public_run(run_id),
        "cancel_id": operation.cancel_id,
        "scope": operation.scope.value,
        "target": operation.target or None,
        "requested_by": operation.requested_by,
        "reason": operation.reason,
        "executions": tally.executions,
        "cancelled": len(tally.told),
        "skipped": tally.skipped,
        "dispositions": dict(sorted(tally.dispositions.items())),
        "received_p50_ms": received.p50_ms,
        "received_p99_ms": received.p99_ms,
        "stopped_p50_ms": stopped.p50_ms,
        "stopped_p99_ms": stopped.p99_ms,
        "stopped_max_ms": stopped.max_ms,
        "duration_ms": None if settled_at_us is None else (settled_at_us - operation.requested_at_us) / 1000,
    }
