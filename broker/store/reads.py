"""Reading what stands in a run, in pages: no read holds Redis longer than a page takes.

A hash scan answers every field that stays throughout, in any order, some of them twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from broker.protocol.records import (
    AckRecord,
    AuditEntry,
    ExecutionRecord,
    IntentRecord,
    OperationRecord,
    Parsed,
    Rows,
    stamp,
)
from broker.protocol.states import Scope
from broker.store.backend import Backend

PAGE = 1000
BY_EVENT = 0  # incarnation of a claim whose worker said none: no process is known to be older or newer
READS_BEFORE_ALL = 200


class RunState(NamedTuple):
    """The run's counters: `active` counts the executions whose status is not terminal."""

    exists: bool
    active: int
    epoch: int


class WorkerState(NamedTuple):
    """What the last heartbeat of a worker said; `alive` is False where it has expired or there was none.

    `beating` is the incarnation of the process whose heart beats, `newest` the counter of the worker id: 0 where
    there is none. `seen_at_us` is known for a week after the last beat. `declared_dead` is the incarnation and the
    reason of the last declaration.
    """

    worker_id: str
    beating: int
    newest: int
    seen_at_us: int | None
    declared_dead: tuple[int, str] | None

    @property
    def alive(self) -> bool:
        return self.beating > 0

    @property
    def ever_seen(self) -> bool:
        return self.newest > 0

    def proof_against(self, incarnation: int) -> str | None:
        """Why that process is known to be gone, None where it is not (DESIGN section 3, "lost needs proof")."""
        if incarnation == BY_EVENT or incarnation >= self.newest:
            return None
        if self.declared_dead is not None and self.declared_dead[0] == incarnation:
            return f"declared dead: {self.declared_dead[1]}"
        return f"newer incarnation {self.newest}"


class Waiting(NamedTuple):
    """How many executions of a run were told and are not settled, and when the first of them was told (0: none)."""

    number: int
    oldest_us: int


class Gates(NamedTuple):
    """The closed gates of a run: the cancel id of the run's own, and of each subtree's by its target."""

    run: str | None
    subtrees: Mapping[str, str]


class Reads:
    """Reads of one run; nothing here writes."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def run_state(self, run_id: str) -> RunState:
        keys = self._backend.run(run_id)
        count, (active, epoch) = await asyncio.gather(
            self._backend.commands.command("HLEN", keys.executions),
            self._backend.commands.command("HMGET", keys.run, "active", "epoch"),
        )
        return RunState(count > 0, int(active or 0), int(epoch or 0))

    async def execution(self, run_id: str, execution_id: str) -> ExecutionRecord | None:
        raw = await self._backend.commands.command("HGET", self._backend.run(run_id).executions, execution_id)
        return ExecutionRecord.parse(raw) if raw else None

    async def executions(self, run_id: str) -> Parsed[ExecutionRecord]:
        """Every execution of the run, in pages."""
        return Parsed(await self._hash(self._backend.run(run_id).executions), ExecutionRecord.parse)

    async def execution_pages(self, run_id: str) -> AsyncIterator[tuple[list[str], list[str]]]:
        """Every execution of the run, ids and records as text, at least one a page; some may come twice."""
        async for page in self._scan(self._backend.run(run_id).executions):
            await asyncio.sleep(0)  # sends for the next page: Redis reads it while this one is looked at
            if page:
                yield page[0::2], page[1::2]

    async def rows(self, run_id: str) -> AsyncIterator[Rows]:
        """Every execution of the run with what stands beside it, a page of which is read together; some come twice.

        A page is handed out when the next one is sent for: Redis reads that while this one is looked at.
        """
        read: Rows | None = None
        async for page in self._scan(self._backend.run(run_id).executions):
            if not page:
                continue
            beside = asyncio.ensure_future(self._beside(run_id, page[0::2]))
            try:
                await asyncio.sleep(0)
                if read is not None:
                    yield read
                read = Rows(page[0::2], page[1::2], *await beside)
            finally:
                beside.cancel()
        if read is not None:
            yield read

    async def rows_of(self, run_id: str, execution_ids: Sequence[str]) -> AsyncIterator[Rows]:
        """The same of those of the executions that are recorded."""
        key = self._backend.run(run_id).executions
        for at in range(0, len(execution_ids), PAGE):
            page = execution_ids[at : at + PAGE]
            found, (intents, acks) = await asyncio.gather(
                self._backend.commands.command("HMGET", key, *page), self._beside(run_id, page)
            )
            known = [row for row in zip(page, found, intents, acks, strict=True) if row[1] is not None]
            if known:
                yield Rows(*zip(*known, strict=True))

    async def _beside(self, run_id: str, ids: Sequence[str]) -> tuple[list[str | None], list[str | None]]:
        """The intents and the acks of these."""
        keys, command = self._backend.run(run_id), self._backend.commands.command
        intents, acks = await asyncio.gather(command("HMGET", keys.intents, *ids), command("HMGET", keys.acks, *ids))
        return intents, acks

    async def some_executions(self, run_id: str, execution_ids: Sequence[str]) -> dict[str, ExecutionRecord]:
        """Those of the executions that are recorded."""
        found = await self._backend.fields(self._backend.run(run_id).executions, execution_ids)
        return {one: ExecutionRecord.parse(raw) for one, raw in found.items()}

    async def some_intents(self, run_id: str, execution_ids: Sequence[str]) -> dict[str, IntentRecord]:
        found = await self._backend.fields(self._backend.run(run_id).intents, execution_ids)
        return {one: IntentRecord.parse(raw) for one, raw in found.items()}

    async def some_acks(self, run_id: str, execution_ids: Sequence[str]) -> dict[str, AckRecord]:
        found = await self._backend.fields(self._backend.run(run_id).acks, execution_ids)
        return {one: AckRecord.parse(raw) for one, raw in found.items()}

    async def gates(self, run_id: str) -> Gates:
        """Those of subtrees are looked for only where there are any: beside them stand the narrow cancels, which gate
        nothing, and of which a run may have thousands."""
        key = self._backend.run(run_id).gates
        run_gate, subtrees = await self._backend.commands.command("HMGET", key, "*", "#subtrees")
        found: dict[str, str] = {}
        if subtrees:
            async for page in self._scan(key):
                found.update(zip(page[0::2], page[1::2], strict=True))
        return Gates(run_gate, {target: one for target, one in found.items() if target[0] not in "*=#"})

    async def narrow_cancel(self, run_id: str, execution_id: str) -> str | None:
        """The cancel id of the execution's own cancel."""
        found = await self._backend.commands.command("HGET", self._backend.run(run_id).gates, f"={execution_id}")
        return None if found is None else str(found)

    async def intents(self, run_id: str) -> Parsed[IntentRecord]:
        return Parsed(await self._hash(self._backend.run(run_id).intents), IntentRecord.parse)

    async def acks(self, run_id: str) -> Parsed[AckRecord]:
        return Parsed(await self._hash(self._backend.run(run_id).acks), AckRecord.parse)

    async def unsettled(self, run_id: str) -> list[str]:
        """Executions that were told and are not settled, longest waiting first.

        Scanned, not paged by rank: what settles meanwhile would shift the ranks and hide others.
        """
        found: dict[str, float] = {}
        async for page in self._scan(self._backend.run(run_id).unsettled, "ZSCAN"):
            found.update(zip(page[0::2], map(float, page[1::2]), strict=True))
        return sorted(found, key=lambda one: (found[one], one))

    async def waiting(self, run_id: str) -> Waiting:
        key, command = self._backend.run(run_id).unsettled, self._backend.commands.command
        count, first = await asyncio.gather(command("ZCARD", key), command("ZRANGE", key, "0", "0", "WITHSCORES"))
        return Waiting(int(count), int(float(first[1])) if first else 0)

    async def longest_waiting(self, run_id: str, limit: int) -> list[str]:
        """The first of them, as one moment shows them."""
        found = await self._backend.commands.command("ZRANGE", self._backend.run(run_id).unsettled, "0", str(limit - 1))
        return [str(one) for one in found]

    async def still_unsettled(self, run_id: str, execution_ids: Iterable[str]) -> set[str]:
        """Those of the executions that are told and not settled."""
        wanted, key = list(execution_ids), self._backend.run(run_id).unsettled
        still: set[str] = set()
        for at in range(0, len(wanted), PAGE):
            page = wanted[at : at + PAGE]
            scores = await self._backend.commands.command("ZMSCORE", key, *page)
            still.update(one for one, score in zip(page, scores, strict=True) if score is not None)
        return still

    async def operation(self, run_id: str, cancel_id: str) -> OperationRecord | None:
        raw = await self._backend.commands.command("HGET", self._backend.run(run_id).cancels, cancel_id)
        return OperationRecord.parse(cancel_id, raw) if raw else None

    async def some_operations(self, run_id: str, cancel_ids: Iterable[str]) -> list[OperationRecord]:
        """Those of the operations that there are."""
        found = await self._backend.fields(self._backend.run(run_id).cancels, sorted(cancel_ids))
        return [OperationRecord.parse(one, raw) for one, raw in found.items()]

    async def operations(self, run_id: str) -> list[OperationRecord]:
        """All cancel operations of the run, oldest first."""
        found: dict[str, OperationRecord] = {}
        async for page in self._scan(self._backend.run(run_id).cancels):
            for at in range(0, len(page), 2):
                found[page[at]] = OperationRecord.parse(page[at], page[at + 1])
        return sorted(found.values(), key=lambda operation: (operation.requested_at_us, operation.cancel_id))

    async def log(self, run_id: str, after: str = "", limit: int = PAGE) -> list[AuditEntry]:
        """The audit of the run, oldest first: at most `limit` entries behind the position `after`."""
        since = f"({after}" if after else "-"
        command = self._backend.commands.command
        entries = await command("XRANGE", self._backend.run(run_id).log, since, "+", "COUNT", limit)
        return [AuditEntry.parse(position, flat) for position, flat in entries]

    async def log_end(self, run_id: str) -> str:
        """The position of the newest entry of the audit, "0-0" where there is none."""
        newest = await self._backend.commands.command("XREVRANGE", self._backend.run(run_id).log, "+", "-", "COUNT", 1)
        return str(newest[0][0]) if newest else "0-0"

    async def unsettled_count(self, run_id: str) -> int:
        """How many executions were told and are not settled."""
        return int(await self._backend.commands.command("ZCARD", self._backend.run(run_id).unsettled))

    async def sample_acks(self, run_id: str) -> dict[str, AckRecord]:
        """One page of what was said in the run: about 1,000 of many, all of few."""
        _, page = await self._backend.commands.command("HSCAN", self._backend.run(run_id).acks, "0", "COUNT", PAGE)
        return {one: AckRecord.parse(raw) for one, raw in zip(page[0::2], page[1::2], strict=True)}

    async def worker_ids(self, run_id: str) -> dict[str, str]:
        """Worker slot → worker id."""
        found: dict[str, str] = {}
        async for page in self._scan(self._backend.run(run_id).workers):
            found.update({slot: one for slot, one in zip(page[0::2], page[1::2], strict=True) if slot[0] != "="})
        return found

    async def slot_of(self, run_id: str, worker_id: str) -> str | None:
        """The slot of a worker in a run, None where it never said anything there."""
        slot = await self._backend.commands.command("HGET", self._backend.run(run_id).workers, f"={worker_id}")
        return None if slot is None else str(slot)

    async def workers(self, worker_ids: Iterable[str]) -> dict[str, WorkerState]:
        """The heartbeats of some workers, and which of their processes is the newest."""
        return dict(await asyncio.gather(*map(self._worker, dict.fromkeys(worker_ids))))

    async def _worker(self, worker_id: str) -> tuple[str, WorkerState]:
        keys, command = self._backend.keys, self._backend.commands.command
        (incarnation, beat), newest, seen, declared = await asyncio.gather(
            command("HMGET", keys.worker(worker_id), "incarnation", "seen_at_us"),
            command("GET", keys.incarnation(worker_id)),
            command("GET", keys.last_seen(worker_id)),
            command("GET", keys.declared_dead(worker_id)),
        )
        dead = declared.partition("|") if declared else None
        return worker_id, WorkerState(
            worker_id,
            beating=int(incarnation or 0),
            newest=int(newest or 0),
            seen_at_us=stamp(beat or seen or ""),
            declared_dead=(int(dead[0]), dead[2]) if dead else None,
        )

    async def in_scope(self, run_id: str, operation: OperationRecord, execution_ids: Sequence[str]) -> list[str]:
        """Those of the executions that the operation's scope contains: the tree decides, no marks."""
        if operation.scope is Scope.RUN:
            return list(execution_ids)
        if operation.scope is Scope.EXECUTION:
            return [one for one in execution_ids if one == operation.target]
        parents = await self.ancestors(run_id, execution_ids)
        return [one for one in execution_ids if is_below(one, operation.target, parents)]

    async def ancestors(self, run_id: str, execution_ids: Iterable[str]) -> Mapping[str, str]:
        """Parents of the executions and of all their ancestors, a level of them in one read.

        Where the tree is so deep that this takes too many reads, the whole run is read instead.
        """
        key = self._backend.run(run_id).executions
        parents: dict[str, str] = {}
        wanted = list(dict.fromkeys(execution_ids))
        reads_left = READS_BEFORE_ALL
        while wanted:
            if not reads_left:
                everything = await self.executions(run_id)
                return {one: record.parent_execution_id for one, record in everything.items()}
            reads_left -= 1
            page, rest = wanted[:PAGE], wanted[PAGE:]
            values = await self._backend.commands.command("HMGET", key, *page)
            for one, raw in zip(page, values, strict=True):
                parents[one] = ExecutionRecord.parse(raw).parent_execution_id if raw else ""
            found = (parents[one] for one in page)
            wanted = list(dict.fromkeys([*rest, *(one for one in found if one and one not in parents)]))
        return parents

    async def _hash(self, key: str) -> dict[str, str]:
        found: dict[str, str] = {}
        async for page in self._scan(key):
            found.update(zip(page[0::2], page[1::2], strict=True))
        return found

    async def _scan(self, key: str, verb: str = "HSCAN") -> AsyncIterator[list[str]]:
        """The next page is asked for before this one is looked at, so that what is read beside it goes with it."""
        scan = partial(self._backend.commands.command, verb, key)
        asked: asyncio.Future[Any] | None = scan("0", "COUNT", PAGE)
        try:
            while asked is not None:
                cursor, page = await asked
                asked = scan(cursor, "COUNT", PAGE) if str(cursor) != "0" else None
                yield page
        finally:
            if asked is not None:  # whoever looks has seen enough
                asked.cancel()


def is_below(execution_id: str, target: str, parents: Mapping[str, str]) -> bool:
    """Whether it is the target, or the target is one of its known ancestors."""
    seen: set[str] = set()
    while execution_id and execution_id not in seen:
        if execution_id == target:
            return True
        seen.add(execution_id)
        execution_id = parents.get(execution_id, "")
    return False
