"""Reads a run for those who decide: the snapshot that is walked, the report, the preview."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from broker.cancel.nodes import NO_NODES, Fate, NodeResult, Nodes
from broker.cancel.report import CancelReport, Evidence, Worker, build_report, evidence_of
from broker.cancel.tally import Tally
from broker.cancel.tree import Tree
from broker.cancel.views import effective_status
from broker.cancel.walk import Forest, Walk, depths, walk
from broker.errors import BrokerError, NoCancellation, NotFound
from broker.observe.events import REPORT_COUNT_FAILED
from broker.observe.log import get_logger
from broker.protocol.names import public_run, run_in_words
from broker.protocol.records import AuditEntry, Facts, OperationRecord
from broker.protocol.states import Scope
from broker.store.operations import Operations
from broker.store.reads import PAGE, Reads

log = get_logger("broker.cancel")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The executions in an operation's scope, as one read found them, in the order of the walk; and its levels.

    `facts` and `depths` have what is known of each, in the same order.
    """

    executions: Sequence[str]
    facts: Sequence[Facts]
    depths: Sequence[int]
    walk: Walk


class Preview(NamedTuple):
    """What a cancel would touch now: nothing was changed. `would_cancel` counts the non-terminal ones."""

    run_id: str | None
    scope: Scope
    target: str | None
    executions: int
    would_cancel: int
    nodes: Sequence[NodeResult]


class Survey:
    """Loads, reports, previews. Nothing here writes."""

    def __init__(self, reads: Reads, operations: Operations) -> None:
        self._reads = reads
        self._operations = operations
        self._tree = Tree(reads)

    async def load(self, run_id: str, operation: OperationRecord) -> Snapshot:
        """Every execution in the operation's scope."""
        return await self._load(run_id, operation.scope, operation.target)

    async def _load(self, run_id: str, scope: Scope, target: str) -> Snapshot:
        if scope is Scope.EXECUTION:
            return await self.load_one(run_id, target)
        outline = await self._tree.outline(run_id)
        walked = walk(outline.forest, target or None)
        facts = [outline.facts[one] for one in walked.execution_ids]
        return Snapshot(walked.execution_ids, facts, walked.depths, walked)

    async def load_one(self, run_id: str, target: str) -> Snapshot:
        """Just that execution; nothing where it is not recorded."""
        record = await self._reads.execution(run_id, target)
        if record is None:
            return Snapshot((), (), (), walk(Forest()))
        facts = Facts.read(record.status, record.agent_node_id, record.reasoner_id)
        return Snapshot([target], [facts], [0], walk(Forest([(target, "", 0, 0)])))

    async def preview(self, run_id: str, scope: Scope, target: str = "") -> Preview:
        """What a cancel would touch. Raises NotFound."""
        snapshot = await self._load(run_id, scope, target)
        if not snapshot.executions:
            raise NotFound(f"execution {target} not found" if target else f"{run_in_words(run_id)} not found")
        snapshot = await self._in_its_tree(run_id, scope, snapshot)
        covers = await self._tree.covers(run_id, snapshot.executions)
        statuses = [
            effective_status(facts, covers.get(one))
            for one, facts in zip(snapshot.executions, snapshot.facts, strict=True)
        ]
        nodes = Nodes(snapshot.executions, snapshot.depths, list(map(cache(Fate.of), snapshot.facts, statuses)))
        would_cancel = sum(not status.terminal for status in statuses)
        return Preview(public_run(run_id), scope, target or None, len(nodes), would_cancel, nodes)

    async def _in_its_tree(self, run_id: str, scope: Scope, snapshot: Snapshot) -> Snapshot:
        """The depth of a narrow cancel's execution: nothing but a report needs it."""
        if scope is not Scope.EXECUTION:
            return snapshot
        return replace(snapshot, depths=[await self._tree.depth(run_id, one) for one in snapshot.executions])

    async def report(
        self,
        run_id: str,
        cancel_id: str | None = None,
        *,
        nodes: Nodes = NO_NODES,
        repeated: bool = False,
        cursor: int = 0,
    ) -> CancelReport:
        """The report of an operation, by default of the widest one. Raises NotFound and NoCancellation."""
        operation = await self.operation(run_id, cancel_id)
        tally, depth_of = await self._tally(run_id, operation)
        evidence, active = await asyncio.gather(
            self._evidence(run_id, operation, tally, depth_of), self._active_in_run(run_id)
        )
        return build_report(
            run_id, operation, tally, evidence, active_in_run=active, nodes=nodes, repeated=repeated, cursor=cursor
        )

    async def tally(self, run_id: str, operation: OperationRecord) -> Tally:
        """What is known of the executions in its scope."""
        tally, _ = await self._tally(run_id, operation)
        return tally

    async def _tally(self, run_id: str, operation: OperationRecord) -> tuple[Tally, Mapping[str, int]]:
        """What is in scope, and how deep: the tree of a run is made only where something of it still runs."""
        tally = Tally(operation)
        if operation.scope is Scope.RUN:
            async for page in self._reads.rows(run_id):
                tally.add(page)
            return tally, depths((await self._tree.outline(run_id)).forest) if tally.running else {}
        if operation.scope is Scope.EXECUTION:
            async for page in self._reads.rows_of(run_id, [operation.target]):
                tally.add(page)
            return tally, {one: await self._tree.depth(run_id, one) for one in tally.running}
        snapshot = await self._load(run_id, operation.scope, operation.target)
        async for page in self._reads.rows_of(run_id, snapshot.executions):
            tally.add(page)
        return tally, dict(zip(snapshot.executions, snapshot.depths, strict=True)) if tally.running else {}

    async def _active_in_run(self, run_id: str) -> int | None:
        """Advice for whoever cancelled just one: a report is not refused for it."""
        try:
            gates = await self._reads.gates(run_id)
            if gates.run:
                return 0  # a closed gate has decided, also where its walk has not come by
            subtrees = await self._reads.some_operations(run_id, gates.subtrees.values())
            if any(one.phase == "walking" for one in subtrees):
                return await self._effectively_active(run_id)
            return (await self._reads.run_state(run_id)).active
        except BrokerError as error:
            log.warning(REPORT_COUNT_FAILED, run_id=run_id, error=str(error))
            return None

    async def _effectively_active(self, run_id: str) -> int:
        outline = await self._tree.outline(run_id)
        covers = await self._tree.covers_of_all(run_id, outline.forest, outline.facts)
        return sum(not effective_status(facts, covers.get(one)).terminal for one, facts in outline.facts.items())

    async def audit(self, run_id: str, after: str = "", limit: int | None = None) -> tuple[AuditEntry, ...]:
        """The run's log behind the position `after`, oldest first; without a limit all of it. Raises NotFound."""
        found: list[AuditEntry] = []
        while page := await self._reads.log(run_id, found[-1].position if found else after, limit or PAGE):
            found += page
            if limit is not None:
                break
        if not found and not (await self._reads.run_state(run_id)).exists:
            raise NotFound(f"{run_in_words(run_id)} not found")
        return tuple(found)

    async def operation(self, run_id: str, cancel_id: str | None) -> OperationRecord:
        """The operation, by default the widest one, of those the oldest. Raises NotFound and NoCancellation."""
        if cancel_id is not None:
            operation = await self._reads.operation(run_id, cancel_id)
            if operation is None:
                raise NoCancellation(f"{run_in_words(run_id)} has no cancel {cancel_id}")
            return operation
        operations = await self._reads.operations(run_id)
        if operations:
            width = {Scope.RUN: 0, Scope.SUBTREE: 1, Scope.EXECUTION: 2}
            return min(operations, key=lambda one: (width[one.scope], one.requested_at_us))
        if not (await self._reads.run_state(run_id)).exists:
            raise NotFound(f"{run_in_words(run_id)} not found")
        raise NoCancellation(f"{run_in_words(run_id)} was never cancelled")

    async def _evidence(
        self, run_id: str, operation: OperationRecord, tally: Tally, depth_of: Mapping[str, int]
    ) -> Evidence:
        """Of what still runs, and of the operations that told it."""
        others = tally.cancel_ids - {operation.cancel_id}
        slots, tellers, now_us = await asyncio.gather(
            self._reads.worker_ids(run_id), self._reads.some_operations(run_id, others), self._operations.now_us()
        )
        workers = {
            state.worker_id: Worker(state.worker_id, state.alive, state.ever_seen, state.seen_at_us)
            for state in (await self._reads.workers(tally.holders(slots))).values()
        }
        deadlines = {one.cancel_id: one.deadline_us for one in (operation, *tellers)}
        return evidence_of(tally, depth_of, slots, workers, now_us, deadlines)
