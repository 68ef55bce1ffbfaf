"""Where an execution stands in its run: how deep, and under which closed gate. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from broker.cancel.walk import Forest, depths, descendants
from broker.protocol.records import ExecutionRecord, Parsed, place_of
from broker.store.reads import Reads, is_below


def forest_of(executions: Mapping[str, ExecutionRecord]) -> Forest:
    """The tree of these records, as the walk needs it."""
    if isinstance(executions, Parsed):
        return Forest((one, *place_of(raw)) for one, raw in executions.raw())
    return Forest(
        (one, record.parent_execution_id, record.order_us, int(record.registered_at_us or 0))
        for one, record in executions.items()
    )


class DepthsWhereAsked(Mapping[str, int]):
    """The depth of each, worked out when the first one is asked for."""

    def __init__(self, executions: Mapping[str, ExecutionRecord]) -> None:
        self._executions = executions

    @cached_property
    def _depths(self) -> Mapping[str, int]:
        return depths(forest_of(self._executions))

    def __getitem__(self, one: str) -> int:
        return self._depths[one]

    def __iter__(self) -> Iterator[str]:
        return iter(self._executions)

    def __len__(self) -> int:
        return len(self._executions)


class Tree:
    """Answers for a few executions without reading the whole run, wherever that can be."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def depth(self, run_id: str, execution_id: str) -> int:
        """The depth that the walk gives it: only a cycle needs the whole run for that."""
        parents = await self._reads.ancestors(run_id, [execution_id])
        known = await self._reads.some_executions(run_id, list(parents))
        seen: set[str] = set()
        at = execution_id
        while at in known and at not in seen:
            seen.add(at)
            at = parents.get(at, "")
        if at not in seen:
            return max(0, len(seen) - 1)
        return depths(forest_of(await self._reads.executions(run_id)))[execution_id]

    async def covers(self, run_id: str, execution_ids: Sequence[str]) -> dict[str, str]:
        """The cancel id of a closed gate that covers it: the run's, else of a subtree that it lies in."""
        gates = await self._reads.gates(run_id)
        if gates.run:
            return dict.fromkeys(execution_ids, gates.run)
        if not gates.subtrees:
            return {}
        parents = await self._reads.ancestors(run_id, execution_ids)
        return {
            one: cancel_id
            for target, cancel_id in gates.subtrees.items()
            for one in execution_ids
            if is_below(one, target, parents)
        }

    async def covers_of_all(
        self, run_id: str, forest: Forest, executions: Mapping[str, ExecutionRecord]
    ) -> Mapping[str, str]:
        """The same for everything in the run."""
        gates = await self._reads.gates(run_id)
        if gates.run:
            return dict.fromkeys(executions, gates.run)
        return {one: gate for target, gate in gates.subtrees.items() for one in descendants(forest, target)}
