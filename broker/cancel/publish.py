"""Publishing one walk: chunks in order, a few in flight, and a result for each execution."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broker.cancel.follow import Follower
from broker.cancel.report import NodeResult
from broker.cancel.survey import Snapshot
from broker.errors import StoreRefused
from broker.observe import signals
from broker.protocol.records import OperationRecord
from broker.store.operations import CHUNK, CHUNKS_IN_FLIGHT, Operations, Told


class WalkAgain(Exception):
    """The tree has changed above what is being walked."""


class Superseded(Exception):
    """A newer driver has the operation."""


def raise_for_code(code: str) -> None:
    """What a driver script answers when the walk must not go on."""
    if code == "dirty":
        raise WalkAgain
    if code in ("fenced", "gone"):
        raise Superseded


class Publisher:
    """Tells the executions of one snapshot. Raises WalkAgain and Superseded.

    `refused` says that Redis would not take some chunk: those nodes are errors, and the operation stays
    `walking`, so that the sweep tells them later.
    """

    def __init__(
        self,
        operations: Operations,
        run_id: str,
        operation: OperationRecord,
        snapshot: Snapshot,
        follower: Follower,
        results: dict[str, NodeResult],
    ) -> None:
        self.refused = False
        self._operations = operations
        self._run_id = run_id
        self._operation = operation
        self._snapshot = snapshot
        self._follower = follower
        self._results = results

    async def publish(self, execution_ids: Sequence[str]) -> None:
        """Tells these, in this order."""
        chunks = [execution_ids[at : at + CHUNK] for at in range(0, len(execution_ids), CHUNK)]
        for at in range(0, len(chunks), CHUNKS_IN_FLIGHT):
            codes = await asyncio.gather(*map(self._publish_chunk, chunks[at : at + CHUNKS_IN_FLIGHT]))
            await signals.reached("cancel.chunk", self._operation.cancel_id)
            for code in codes:
                raise_for_code(code)

    async def _publish_chunk(self, chunk: Sequence[str]) -> str:
        try:
            code, told = await self._operations.publish(self._run_id, self._operation, chunk)
        except StoreRefused as error:
            self.refused = True
            for one in chunk:
                self._results.setdefault(one, self._snapshot.node(one, "error", str(error)))
            return "refused"
        self.take(told)
        return code

    def take(self, told: Sequence[Told]) -> None:
        """These have been told."""
        for one_told in told:
            self._results.setdefault(one_told.execution_id, self._result(one_told))
        self._follower.expect(one.execution_id for one in told if one.code in ("told", "held", "adopted"))

    def _result(self, told: Told) -> NodeResult:
        """The answer for one node, in the words of the compatible endpoint."""
        node = self._snapshot.node
        ours = told.cancel_id == self._operation.cancel_id
        if told.code in ("told", "never_started") or (told.code == "adopted" and ours):
            return node(told.execution_id, "cancelled")
        if told.code == "unknown":
            return node(told.execution_id, "error", "its record is gone")
        if self._snapshot.was_terminal(told.execution_id):
            return node(told.execution_id, None, "terminal")
        return node(told.execution_id, "skipped", "raced_to_terminal")
