"""Where an execution stands in its run: how deep, and under which closed gate. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.cancel.walk import Forest, depths, descendants
from broker.protocol.records import ExecutionRecord, Facts, Parsed, place_of, places_of
from broker.store.reads import Reads, is_below


def forest_of(executions: Mapping[str, ExecutionRecord]) -> Forest:
    """The tree of these records, as the walk needs it."""
    if isinstance(executions, Parsed):
        return Forest((one, *place_of(raw)) for one, raw in executions.raw())
    return Forest(
        (one, record.parent_execution_id, record.order_us, int(record.registered_at_us or 0))
        for one, record in executions.items()
    )


class Outline:
    """What of a run is needed to walk it and to answer for its nodes: it takes in page by page, and keeps no record."""

    def __init__(self) -> None:
        self.forest = Forest()
        self.facts: dict[str, Facts] = {}
        self._known: dict[tuple[str, str, str], Facts] = {}

    def add(self, ids: Sequence[str], raw: Sequence[str]) -> None:
        """Takes in these ids and their records; of a repeated id the last one counts."""
        places = places_of(raw, self._known)
        self.forest.add_columns(ids, places.parents, places.stamps_us, places.registered_us)
        self.facts.update(zip(ids, places.facts, strict=True))


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
        return depths((await self.outline(run_id)).forest)[execution_id]

    async def outline(self, run_id: str) -> Outline:
        """Every execution of the run."""
        outline = Outline()
        async for page in self._reads.execution_pages(run_id):
            outline.add(*page)
        return outline

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

    async def covers_of_all(self, run_id: str, forest: Forest, executions: Iterable[str]) -> Mapping[str, str]:
        """The same for everything in the run."""
        gates = await self._reads.gates(run_id)
        if gates.run:
            return dict.fromkeys(executions, gates.run)
        return {one: gate for target, gate in gates.subtrees.items() for one in descendants(forest, target)}
