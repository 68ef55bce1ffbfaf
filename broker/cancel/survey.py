"""Reads a run for those who decide: the snapshot that is walked, the report, the preview."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from broker.cancel.report import CancelReport, Evidence, NodeResult, Worker, build_report, disposition_of
from broker.cancel.tree import DepthsWhereAsked, Tree, forest_of
from broker.cancel.views import effective_status
from broker.cancel.walk import Forest, Walk, walk
from broker.errors import BrokerError, NoCancellation, NotFound
from broker.observe.events import REPORT_COUNT_FAILED
from broker.observe.log import get_logger
from broker.protocol.names import public_run, run_in_words
from broker.protocol.records import AckRecord, AuditEntry, ExecutionRecord, IntentRecord, OperationRecord, unescape
from broker.protocol.states import Scope, is_terminal
from broker.store.operations import Operations
from broker.store.reads import PAGE, Reads

log = get_logger("broker.cancel")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The executions in an operation's scope, as one read found them, in the order of the walk; and its levels."""

    executions: Mapping[str, ExecutionRecord]
    walk: Walk
    depths: Mapping[str, int]

    def node(self, execution_id: str, status: str | None = None, skip_reason: str | None = None) -> NodeResult:
        """What is known of the node, and what became of it; without `status` it is as it was."""
        record = self.executions[execution_id]
        return NodeResult(
            execution_id=execution_id,
            depth=self.depths[execution_id],
            previous_status=record.raw_status,
            status=status or record.raw_status,
            skip_reason=skip_reason,
            agent_node_id=record.agent_node_id or None,
            reasoner_id=unescape(record.reasoner_id) or None,
        )

    def was_terminal(self, execution_id: str) -> bool:
        return is_terminal(self.executions[execution_id].raw_status)


class Preview(NamedTuple):
    """What a cancel would touch now: nothing was changed. `would_cancel` counts the non-terminal ones."""

    run_id: str | None
    scope: Scope
    target: str | None
    executions: int
    would_cancel: int
    nodes: tuple[NodeResult, ...]


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
        executions = await self._reads.executions(run_id)
        walked = walk(forest_of(executions), target or None)
        depths = {one: level.depth for level in walked for one in level.execution_ids}
        return Snapshot(executions.of(depths), walked, depths)

    async def load_one(self, run_id: str, target: str) -> Snapshot:
        """Just that execution; nothing where it is not recorded."""
        record = await self._reads.execution(run_id, target)
        if record is None:
            return Snapshot({}, walk(Forest()), {})
        return Snapshot({target: record}, walk(Forest([(target, "", 0, 0)])), {target: 0})

    async def preview(self, run_id: str, scope: Scope, target: str = "") -> Preview:
        """What a cancel would touch. Raises NotFound."""
        snapshot = await self._load(run_id, scope, target)
        if not snapshot.executions:
            raise NotFound(f"execution {target} not found" if target else f"{run_in_words(run_id)} not found")
        snapshot = await self._in_its_tree(run_id, scope, snapshot)
        covers = await self._tree.covers(run_id, list(snapshot.executions))
        statuses = {one: effective_status(record, covers.get(one)) for one, record in snapshot.executions.items()}
        nodes = tuple(snapshot.node(one, status) for one, status in statuses.items())
        would_cancel = sum(not status.terminal for status in statuses.values())
        return Preview(public_run(run_id), scope, target or None, len(nodes), would_cancel, nodes)

    async def _in_its_tree(self, run_id: str, scope: Scope, snapshot: Snapshot) -> Snapshot:
        """The depth of a narrow cancel's execution: nothing but a report needs it."""
        if scope is not Scope.EXECUTION:
            return snapshot
        return replace(snapshot, depths={one: await self._tree.depth(run_id, one) for one in snapshot.executions})

    async def report(
        self,
        run_id: str,
        cancel_id: str | None = None,
        *,
        nodes: tuple[NodeResult, ...] = (),
        repeated: bool = False,
        cursor: int = 0,
    ) -> CancelReport:
        """The report of an operation, by default of the widest one. Raises NotFound and NoCancellation."""
        operation = await self.operation(run_id, cancel_id)
        executions, depths = await self._to_report(run_id, operation)
        evidence, operations = await self._evidence(run_id, operation, executions, depths)
        active = await self._active_in_run(run_id, operations)
        return build_report(
            run_id, operation, evidence, active_in_run=active, nodes=nodes, repeated=repeated, cursor=cursor
        )

    async def _to_report(
        self, run_id: str, operation: OperationRecord
    ) -> tuple[Mapping[str, ExecutionRecord], Mapping[str, int]]:
        """What is in scope, and how deep: the tree of a run is made only where something of it still runs."""
        if operation.scope is Scope.RUN:
            executions = await self._reads.executions(run_id)
            return executions, DepthsWhereAsked(executions)
        snapshot = await self._load(run_id, operation.scope, operation.target)
        snapshot = await self._in_its_tree(run_id, operation.scope, snapshot)
        return snapshot.executions, snapshot.depths

    async def _active_in_run(self, run_id: str, operations: Sequence[OperationRecord]) -> int | None:
        """Advice for whoever cancelled just one: a report is not refused for it."""
        try:
            if any(one.scope is Scope.RUN for one in operations):
                return 0  # a closed gate has decided, also where its walk has not come by
            if any(one.scope is Scope.SUBTREE and one.phase == "walking" for one in operations):
                return await self._effectively_active(run_id)
            return (await self._reads.run_state(run_id)).active
        except BrokerError as error:
            log.warning(REPORT_COUNT_FAILED, run_id=run_id, error=str(error))
            return None

    async def _effectively_active(self, run_id: str) -> int:
        executions = await self._reads.executions(run_id)
        covers = await self._tree.covers_of_all(run_id, forest_of(executions), executions)
        return sum(not effective_status(one, covers.get(name)).terminal for name, one in executions.items())

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
        self,
        run_id: str,
        operation: OperationRecord,
        executions: Mapping[str, ExecutionRecord],
        depths: Mapping[str, int],
    ) -> tuple[Evidence, list[OperationRecord]]:
        """What was said of the executions, and the operations of their run."""
        intents, acks, slots, operations, now_us = await asyncio.gather(
            self._intents(run_id, operation),
            self._acks(run_id, operation),
            self._reads.worker_ids(run_id),
            self._reads.operations(run_id),
            self._operations.now_us(),
        )
        wanted = _workers_of_interest(executions, intents, acks, slots)
        workers = {
            state.worker_id: Worker(state.worker_id, state.alive, state.ever_seen, state.seen_at_us)
            for state in (await self._reads.workers(wanted)).values()
        }
        deadlines = {one.cancel_id: one.deadline_us for one in operations}
        return Evidence(executions, depths, intents, acks, slots, workers, now_us, deadlines), operations

    async def _intents(self, run_id: str, operation: OperationRecord) -> Mapping[str, IntentRecord]:
        if operation.scope is Scope.EXECUTION:
            return await self._reads.some_intents(run_id, [operation.target])
        return await self._reads.intents(run_id)

    async def _acks(self, run_id: str, operation: OperationRecord) -> Mapping[str, AckRecord]:
        if operation.scope is Scope.EXECUTION:
            return await self._reads.some_acks(run_id, [operation.target])
        return await self._reads.acks(run_id)


def _workers_of_interest(
    executions: Mapping[str, ExecutionRecord],
    intents: Mapping[str, IntentRecord],
    acks: Mapping[str, AckRecord],
    slots: Mapping[str, str],
) -> list[str]:
    """Only those whose heartbeat can be a cause: holders of what was told and is not settled."""
    open_ones = (executions[one] for one in executions if one in intents and not disposition_of(acks.get(one)).settled)
    return [slots[slot] for slot in {record.slot for record in open_ones if record.claimed} if slot in slots]
