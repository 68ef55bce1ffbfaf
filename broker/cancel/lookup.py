"""Looking things up: one execution, a page of a run, the operators' list of operations. Nothing here writes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from broker.cancel.report import Evidence, Worker, cause_of
from broker.cancel.standing import Standing, share_of, standing_of
from broker.cancel.tree import Tree, forest_of
from broker.cancel.views import (
    Cancellations,
    CancellationView,
    ExecutionView,
    RunView,
    effective_status,
    view_execution,
    workflow_status,
)
from broker.cancel.walk import depths
from broker.cancel.worklist import Entry
from broker.errors import InvalidInput, NotFound
from broker.protocol.names import public_run
from broker.protocol.records import ExecutionRecord, OperationRecord, as_time
from broker.store.operations import Operations
from broker.store.reads import Reads

STATES = ("open", "settled", "all")
NOT_READ = "not_read"
"""The cause of stragglers beyond those that are looked at."""
_NOTHING = Standing(0, False, ())


class Lookup:
    """Reads for those who look at single things."""

    def __init__(self, reads: Reads, operations: Operations) -> None:
        self._reads = reads
        self._operations = operations
        self._tree = Tree(reads)

    async def execution(self, run_id: str, execution_id: str) -> ExecutionView:
        """Raises NotFound."""
        evidence = await self.evidence(run_id, [execution_id])
        if execution_id not in evidence.executions:
            raise NotFound(f"execution {execution_id} not found")
        return (await self._view(run_id, evidence, await self._tree.covers(run_id, [execution_id])))[0]

    async def run(self, run_id: str, cursor: int, limit: int) -> RunView:
        """A page of the run, in the order of registration, then id. Raises NotFound."""
        executions = await self._reads.executions(run_id)
        if not executions:
            raise NotFound(f"run {public_run(run_id)} not found")
        forest = forest_of(executions)
        covers = await self._tree.covers_of_all(run_id, forest, executions)
        order = sorted(executions, key=lambda one: (int(executions[one].registered_at_us or 0), one))
        page = order[cursor : cursor + limit]
        evidence = await self.evidence(run_id, page, executions, depths(forest))
        return RunView(
            run_id=run_id,
            workflow_status=workflow_status(effective_status(executions[one], covers.get(one)) for one in executions),
            total_nodes=len(executions),
            nodes=await self._view(run_id, evidence, covers),
            next_cursor=cursor + limit if cursor + limit < len(order) else None,
        )

    async def cancellations(self, state: str, cursor: int, limit: int) -> Cancellations:
        """Operations whose run is still known, oldest first. Raises InvalidInput."""
        if state not in STATES:
            raise InvalidInput(f"state {state!r}: allowed are {', '.join(STATES)}")
        listed = await self._operations.listed()
        found = await asyncio.gather(*(self._reads.operation(*entry) for entry in listed))
        known = [(run_id, one) for (run_id, _), one in zip(listed, found, strict=True) if one is not None]
        known.sort(key=lambda one: (one[1].requested_at_us, one[1].cancel_id))
        wanted = [entry for entry in known if state in ("all", entry[1].state)]
        opened = [entry for entry in known if entry[1].state == "open"]
        views = await self.views(wanted[cursor : cursor + limit], opened)
        return Cancellations(views, cursor + limit if cursor + limit < len(wanted) else None)

    async def views(
        self, entries: Sequence[Entry], opened: Sequence[Entry], look_at: int | None = None
    ) -> tuple[CancellationView, ...]:
        """How these stand, by run id and operation; `opened` has all that are open in their runs.

        Without `look_at`, so many stragglers of each run, `outstanding` is exact.
        """
        now_us = await self._operations.now_us()
        runs: dict[str, list[OperationRecord]] = {run_id: [] for run_id, one in entries if one.state == "open"}
        for run_id, operation in opened:
            if run_id in runs:
                runs[run_id].append(operation)
        found = await asyncio.gather(
            *(standing_of(self._reads, run_id, some, now_us, look_at) for run_id, some in runs.items())
        )
        standing = {cancel_id: one for standings in found for cancel_id, one in standings.items()}
        causes_of_each = share_of(sum(one.state == "open" for _, one in entries))
        return tuple(
            await asyncio.gather(
                *(
                    self._cancellation(run_id, one, standing.get(one.cancel_id, _NOTHING), causes_of_each)
                    for run_id, one in entries
                )
            )
        )

    async def _cancellation(
        self, run_id: str, operation: OperationRecord, standing: Standing, causes_of_each: int
    ) -> CancellationView:
        causes, oldest = Counter[str](), 0.0
        if standing.outstanding:
            evidence = await self.evidence(run_id, standing.waiting[:causes_of_each], depth_of={})
            causes = Counter(straggler_cause(one, evidence) for one in evidence.executions)
            causes[NOT_READ] = standing.outstanding - causes.total()
            told_us = min((intent.published_at_us for intent in evidence.intents.values()), default=evidence.now_us)
            oldest = max(0, evidence.now_us - told_us) / 1e6
        return CancellationView(
            run_id=public_run(run_id),
            cancel_id=operation.cancel_id,
            scope=operation.scope,
            target=operation.target or None,
            state=operation.state,
            overdue=standing.overdue,
            reason=operation.reason,
            requested_by=operation.requested_by,
            requested_at=as_time(operation.requested_at_us),
            deadline_at=as_time(operation.deadline_us),
            settled_at=as_time(operation.settled_at_us),
            outstanding=standing.outstanding,
            oldest_age=oldest,
            causes={cause: number for cause, number in causes.items() if number > 0},
        )

    # --- evidence of some executions ----------------------------------------------------------------

    async def evidence(
        self,
        run_id: str,
        execution_ids: Sequence[str],
        executions: Mapping[str, ExecutionRecord] | None = None,
        depth_of: Mapping[str, int] | None = None,
    ) -> Evidence:
        """What was said of these, and of who holds them; `executions` and `depth_of` are read where not given."""
        some, intents, acks, slots, now_us = await asyncio.gather(
            self._reads.some_executions(run_id, execution_ids),
            self._reads.some_intents(run_id, execution_ids),
            self._reads.some_acks(run_id, execution_ids),
            self._reads.worker_ids(run_id),
            self._operations.now_us(),
        )
        if executions is not None:
            some = {one: executions[one] for one in execution_ids}
        if depth_of is None:
            depth_of = {one: await self._tree.depth(run_id, one) for one in some}
        holders = {slots[record.slot] for record in some.values() if record.slot in slots}
        workers = {
            state.worker_id: Worker(state.worker_id, state.alive, state.ever_seen, state.seen_at_us)
            for state in (await self._reads.workers(holders)).values()
        }
        return Evidence(some, depth_of, intents, acks, slots, workers, now_us)

    async def _view(self, run_id: str, evidence: Evidence, covers: Mapping[str, str]) -> tuple[ExecutionView, ...]:
        wanted = {
            one: intent.cancel_id if (intent := evidence.intents.get(one)) else covers.get(one)
            for one in evidence.executions
        }
        cancel_ids = sorted({cancel_id for cancel_id in wanted.values() if cancel_id})
        found = await asyncio.gather(*(self._reads.operation(run_id, one) for one in cancel_ids))
        operations = dict(zip(cancel_ids, found, strict=True))
        return tuple(
            view_execution(run_id, one, evidence, operations.get(cancel_id or "")) for one, cancel_id in wanted.items()
        )


def straggler_cause(execution_id: str, evidence: Evidence) -> str:
    """Why one that was told still runs: a word of Cause."""
    record = evidence.executions[execution_id]
    worker_id = evidence.worker_of_slot.get(record.slot) if record.slot else None
    worker = evidence.workers.get(worker_id) if worker_id else None
    return cause_of(record, evidence.intents.get(execution_id), evidence.acks.get(execution_id), worker).value
