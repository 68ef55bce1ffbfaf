"""Settling: a conditional script decides, never the reader. Acks run it too, so the last one settles."""

from __future__ import annotations

import asyncio

from broker.observe import signals
from broker.protocol.records import OperationRecord
from broker.protocol.states import Scope
from broker.store.operations import Operations
from broker.store.reads import Reads

SETTLED_DUE_US = 2_000_000  # soon summed up; it stays on the work list after that: evidence can still come


class Settler:
    """Asks whether an operation is settled, in the way its scope needs."""

    def __init__(self, operations: Operations, reads: Reads) -> None:
        self._operations = operations
        self._reads = reads

    async def settle(self, run_id: str, operation: OperationRecord) -> str:
        """Settles it if nothing in scope is unsettled: a RETURNS word of settle.lua.

        For a subtree `v` is read *before* the unsettled ones and their ancestors, and the script refuses
        when it has risen since: what was registered in between would have been missed.
        """
        if operation.scope is not Scope.SUBTREE:
            return await self._operations.settle(run_id, operation.cancel_id)
        seen = await self._reads.operation(run_id, operation.cancel_id)
        if seen is None:
            return "gone"
        unsettled = await self._reads.unsettled(run_id)
        if await self._reads.in_scope(run_id, seen, unsettled):
            return "open"
        await signals.reached("cancel.settling", operation.cancel_id)
        return await self._operations.settle(run_id, operation.cancel_id, seen.v)

    async def leave(self, run_id: str, operation: OperationRecord, due_us: int) -> None:
        """Gives the lease back and says when the sweep is to look next; in one round trip, and in this order.

        Looks again behind that: who reopened it meanwhile has set it due at once, and that was overwritten.
        """
        await signals.reached("cancel.leaving", operation.cancel_id)
        _, _, left = await asyncio.gather(
            self._operations.lease(run_id, operation.cancel_id, operation.fence, lease_us=0),
            self._operations.reschedule(run_id, operation.cancel_id, due_us),
            self._reads.operation(run_id, operation.cancel_id),
        )
        if left is not None and (left.dirty or left.v != operation.v):
            await self._operations.reschedule(run_id, operation.cancel_id, 0)
