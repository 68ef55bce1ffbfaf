"""Publishing one walk: chunks in order, a few in flight, and a result for each execution."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache

from broker.cancel.follow import Follower
from broker.cancel.nodes import ERROR, Fate, Results
from broker.cancel.survey import Snapshot
from broker.errors import StoreRefused
from broker.observe import signals
from broker.protocol.records import Facts, OperationRecord
from broker.protocol.states import Status, is_terminal
from broker.store.operations import CHUNK, CHUNKS_IN_FLIGHT, Operations, Told

AT_A_TIME = CHUNKS_IN_FLIGHT // 2
"""Chunks that are answered together: as many more are under way meanwhile."""


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
        results: Results,
    ) -> None:
        self.refused = False
        self._operations = operations
        self._run_id = run_id
        self._operation = operation
        self._snapshot = snapshot
        self._follower = follower
        self._results = results
        self._fate = cache(self._fate_of)
        results.walk(snapshot.executions, snapshot.depths)

    async def publish(self, first: int, end: int) -> None:
        """Tells those from the place `first` of the snapshot up to `end`, in this order.

        Some chunks are under way while the answers of those before them are looked at, so that Redis never waits.
        """
        under_way: asyncio.Future[list[str]] | None = None
        try:
            for at in range(first, end, CHUNK * AT_A_TIME):
                chunks = range(at, min(at + CHUNK * AT_A_TIME, end), CHUNK)
                before, under_way = under_way, asyncio.gather(*(self._publish_chunk(one, end) for one in chunks))
                if before is not None:
                    await self._look_at(before)
            if under_way is not None:
                await self._look_at(under_way)
        except BaseException:
            if under_way is not None:  # nothing of it is told any more, or somebody else will
                under_way.cancel()
                await asyncio.gather(under_way, return_exceptions=True)
            raise

    async def _look_at(self, chunks: asyncio.Future[list[str]]) -> None:
        codes = await chunks
        await signals.reached("cancel.chunk", self._operation.cancel_id)
        for code in codes:
            raise_for_code(code)

    async def _publish_chunk(self, first: int, end: int) -> str:
        end = min(end, first + CHUNK)
        chunk = self._snapshot.executions[first:end]
        try:
            code, told = await self._operations.publish(self._run_id, self._operation, chunk)
        except StoreRefused as error:
            self.refused = True
            for one, facts in zip(chunk, self._snapshot.facts[first:end], strict=True):
                self._results.keep(one, Fate.of(facts, ERROR, str(error)))
            return "refused"
        self.take(told, first)
        return code

    def take(self, told: Sequence[Told], first: int = 0) -> None:
        """These have been told: the executions of the snapshot from the place `first` on."""
        keep, fate_of, ours = self._results.keep, self._fate, self._operation.cancel_id
        for one, facts in zip(told, self._snapshot.facts[first : first + len(told)], strict=True):
            keep(one.execution_id, fate_of(facts, one.code, one.cancel_id == ours))
        self._follower.expect(one.execution_id for one in told if one.code in ("told", "held", "adopted"))

    @staticmethod
    def _fate_of(facts: Facts, code: str, ours: bool) -> Fate:
        """The answer for one node, in the words of the compatible endpoint."""
        if code in ("told", "never_started") or (code == "adopted" and ours):
            return Fate.of(facts, Status.CANCELLED.value)
        if code == "unknown":
            return Fate.of(facts, ERROR, "its record is gone")
        if is_terminal(facts.raw_status):
            return Fate.of(facts, None, "terminal")
        return Fate.of(facts, "skipped", "raced_to_terminal")
