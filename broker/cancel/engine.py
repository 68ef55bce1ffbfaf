"""The one function that runs a cancellation. It reads like its sentence:

list → gate → load → walk → publish → follow → settle.

The operation is durable before anything is told, so any process can go on where this one stops: the sweep
(sweep.py) calls `resume` for operations whose driver died.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import replace
from functools import cache, partial
from typing import Any

from broker.cancel import schedule
from broker.cancel.ahead import OPENER, Ahead, list_open_and_tell
from broker.cancel.follow import AckFeed, Follower
from broker.cancel.lease import keeping_lease
from broker.cancel.nodes import Fate, Nodes, Results
from broker.cancel.publish import Publisher, Superseded, WalkAgain, raise_for_code
from broker.cancel.reassert import Reassertion
from broker.cancel.report import CancelReport
from broker.cancel.settle import SETTLED_DUE_US, Settler
from broker.cancel.survey import Survey
from broker.cancel.walk import Walk
from broker.errors import NotFound, StoreRefused
from broker.observe import signals
from broker.observe.events import (
    CANCEL_END_WALK_FAILED,
    CANCEL_FAILED,
    CANCEL_HAND_OVER_FAILED,
    CANCEL_STARTED,
    CANCEL_SUPERSEDED,
    CANCEL_WALK_AGAIN,
)
from broker.observe.log import get_logger
from broker.protocol.records import OperationRecord
from broker.protocol.states import Order, Scope
from broker.store.operations import CancelTerms, Opened, Operations, new_cancel_id
from broker.store.reads import Reads
from broker.store.replication import Replication

log = get_logger("broker.cancel")

BARRIER_LEVEL_MIN_S = 0.05
ACCEPTED_AT_ONCE = 16  # what waits here longer than its lease, the sweep of any process takes


class Engine:
    """Runs cancel operations in this process."""

    def __init__(
        self, operations: Operations, reads: Reads, feed: AckFeed, replication: Replication | None = None
    ) -> None:
        self._operations = operations
        self._reads = reads
        self._survey = Survey(reads, operations)
        self._settler = Settler(operations, reads)
        self._follower = partial(Follower, feed, reads)
        self._replication = replication
        self._driving: set[asyncio.Task[None]] = set()
        self.memory = Reassertion(operations, reads, self.resume)
        self._accepted = asyncio.Semaphore(ACCEPTED_AT_ONCE)

    async def cancel(self, run_id: str, terms: CancelTerms, wait_s: float | None = None) -> CancelReport:
        """Cancels a run, a subtree or one execution, and answers what is known when everything is told.

        With `wait_s` it answers when everything is settled, or when that time is over. A repeat answers for
        the operation that there is. In barrier order without `wait_s` it answers when the first level is told.
        Raises NotFound, AlreadyTerminal, IdempotencyKeyReused, TreeTooDeep, BrokerUnavailable.
        """
        ends_at = None if wait_s is None else asyncio.get_running_loop().time() + wait_s
        async with self._follower(run_id) as follower:
            opened, ahead = await self._gate_and_listen(run_id, terms, follower if ends_at is not None else None)
            operation, results = opened.operation, Results()
            if opened.repeated:
                await self._repeat(run_id, operation, results, escalated=terms.force_after_us is not None)
            elif operation.order is Order.BOTTOM_UP:
                await self._drive(run_id, operation, follower, results, ahead=ahead)
            else:
                await self._drive_behind(run_id, operation, results)
            confirm = self._replication.confirm if self._replication else None
            durability = await confirm(run_id, operation.cancel_id) if confirm else None
            if ends_at is not None:
                await follower.wait_settled(operation, ends_at, partial(self._settle, run_id, operation))
        if operation.order is Order.BOTTOM_UP_BARRIER:
            results = await self._with_those_to_come(run_id, operation, results)
        return replace(await self._report(run_id, opened, results.nodes()), durability=durability)

    async def _with_those_to_come(self, run_id: str, operation: OperationRecord, results: Results) -> Results:
        """Behind a barrier most have not been told when the caller is answered; the gate has decided for all."""
        snapshot = await self._survey.load(run_id, operation)
        answers, decided = Results(), cache(Fate.decided)
        answers.walk(snapshot.executions, snapshot.depths)
        for one, facts in zip(snapshot.executions, snapshot.facts, strict=True):
            answers.keep(one, results.get(one) or decided(facts))
        return answers

    async def follow(self, run_id: str, cancel_id: str) -> CancelReport:
        """The report of an operation, whoever drives it, once it is settled. Raises NotFound, NoCancellation."""
        operation = await self._survey.operation(run_id, cancel_id)
        async with self._follower(run_id) as follower:
            await follower.listen()
            await follower.wait_settled(operation, math.inf, partial(self._settle, run_id, operation))
        return await self._survey.report(run_id, cancel_id)

    async def _settle(self, run_id: str, operation: OperationRecord) -> str:
        code = await self._settler.settle(run_id, operation)
        return "open" if code == "gone" and await self.memory.gated(operation.cancel_id) else code

    async def _report(self, run_id: str, opened: Opened, nodes: Nodes) -> CancelReport:
        """What was lost with Redis's data stands again a moment later."""
        cancel_id = opened.operation.cancel_id
        report = partial(self._survey.report, run_id, cancel_id, nodes=nodes, repeated=opened.repeated)
        try:
            answer = await report()
        except NotFound:
            if not await self.memory.gated(cancel_id):
                raise
            answer = await report()
        if answer.settled:
            self.memory.forget(cancel_id)
        return answer

    async def accept(self, run_id: str, terms: CancelTerms) -> OperationRecord:
        """Answers when the operation is durable, and drives it behind that. Raises what `cancel` raises."""
        opened, ahead = await self._list_and_gate(run_id, terms)
        operation = opened.operation
        if opened.repeated:
            await self._look_again(run_id, operation, escalated=terms.force_after_us is not None)
        else:
            self._in_background(self._drive_accepted(run_id, operation, ahead), operation)
        return operation

    async def _drive_accepted(self, run_id: str, operation: OperationRecord, ahead: Ahead | None) -> None:
        async with self._accepted, self._follower(run_id) as follower:
            await self._drive(run_id, operation, follower, Results(), ahead=ahead)

    async def _gate_and_listen(
        self, run_id: str, terms: CancelTerms, follower: Follower | None
    ) -> tuple[Opened, Ahead | None]:
        """A caller that waits is subscribed to the acks while the gate closes, not after."""
        listening = None if follower is None else asyncio.ensure_future(follower.listen())
        try:
            return await self._list_and_gate(run_id, terms)
        finally:
            if listening is not None:
                await listening

    async def _list_and_gate(self, run_id: str, terms: CancelTerms) -> tuple[Opened, Ahead | None]:
        """On the work list before the gate closes, so that nobody needs this process to resume it."""
        opened, ahead = await list_open_and_tell(self._operations, self._survey, run_id, new_cancel_id(), terms)
        if not opened.repeated:
            self.memory.remember(run_id, opened.operation, terms)
            log.info(
                CANCEL_STARTED, run_id=run_id, cancel_id=opened.operation.cancel_id, scope=terms.scope.value,
                target=terms.target or None, requested_by=terms.requested_by, reason=terms.reason,
            )  # fmt: skip
        await signals.reached("cancel.gated", opened.operation.cancel_id)
        return opened, ahead

    async def _repeat(self, run_id: str, operation: OperationRecord, results: Results, *, escalated: bool) -> None:
        """A repeat answers every node as it was found; an orphan, or one that is now forced, is looked at now."""
        await self._look_again(run_id, operation, escalated=escalated)
        snapshot = await self._survey.load(run_id, operation)
        results.walk(snapshot.executions, snapshot.depths)
        fate_of = cache(Fate.repeated)
        for one, facts in zip(snapshot.executions, snapshot.facts, strict=True):
            results.keep(one, fate_of(facts))

    async def _look_again(self, run_id: str, operation: OperationRecord, *, escalated: bool) -> None:
        if operation.state == "open" and (operation.phase == "walking" or escalated):
            await self._operations.reschedule(run_id, operation.cancel_id, 0)
        if escalated:
            self.memory.escalated(operation)

    # --- load → walk → publish --------------------------------------------------------------------

    async def resume(self, run_id: str, operation: OperationRecord) -> None:
        """Drives an operation whose lease this process has taken over."""
        async with self._follower(run_id) as follower:
            await self._drive(run_id, operation, follower, Results())

    async def _drive(
        self,
        run_id: str,
        operation: OperationRecord,
        follower: Follower,
        results: Results,
        first_told: asyncio.Event | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        """Walks until nothing has changed above what was walked; a node keeps its first answer."""
        if operation.order is Order.BOTTOM_UP_BARRIER:
            await follower.listen(to_each=True)
        try:
            async with keeping_lease(self._operations, run_id, operation):
                walked = await self._walk(run_id, operation, follower, results, first_told, ahead)
            await self._hand_over(run_id, walked)
        except Superseded:
            log.info(CANCEL_SUPERSEDED, run_id=run_id, cancel_id=operation.cancel_id)
            await self.memory.walked(operation.cancel_id)  # where it was Redis that lost it, and nobody took it over

    async def _walk(
        self,
        run_id: str,
        operation: OperationRecord,
        follower: Follower,
        results: Results,
        first_told: asyncio.Event | None,
        ahead: Ahead | None,
    ) -> OperationRecord:
        walking = operation if operation.fence == OPENER else await self._begin_walk(run_id, operation)
        while True:
            await signals.reached("cancel.walking", operation.cancel_id)
            try:
                return await self._walk_once(run_id, walking, follower, results, first_told, ahead)
            except WalkAgain:
                ahead = None
                log.info(CANCEL_WALK_AGAIN, run_id=run_id, cancel_id=operation.cancel_id)
            walking = await self._begin_walk(run_id, operation)

    async def _begin_walk(self, run_id: str, operation: OperationRecord) -> OperationRecord:
        """Not for whoever opened it: the script that closed the gate wrote `walking` and not dirty, before any read.

        What has made it dirty since, publishing and ending the walk refuse, and then it is walked again.
        """
        walking = await self._operations.begin_walk(run_id, operation)
        if walking is None:
            raise Superseded
        return walking

    async def _walk_once(
        self,
        run_id: str,
        walking: OperationRecord,
        follower: Follower,
        results: Results,
        first_told: asyncio.Event | None,
        ahead: Ahead | None,
    ) -> OperationRecord:
        """Load → walk → publish, from a state in which nothing was dirty before the read."""
        snapshot = ahead.snapshot if ahead else await self._survey.load(run_id, walking)
        await signals.reached("cancel.loaded", walking.cancel_id)
        publisher = Publisher(self._operations, run_id, walking, snapshot, follower, results)
        if ahead is not None:
            publisher.take(ahead.told)
        elif walking.order is Order.BOTTOM_UP:
            await publisher.publish(0, len(snapshot.executions))
        else:
            await self._publish_behind_barrier(walking, publisher, snapshot.walk, follower, first_told)
        await signals.reached("cancel.published", walking.cancel_id)
        if not publisher.refused:
            summary = f"{len(snapshot.walk)} levels, {len(snapshot.executions)} executions"
            await self._end_walk(run_id, walking, summary)
        return walking

    async def _end_walk(self, run_id: str, operation: OperationRecord, summary: str) -> None:
        """What is told is told: where Redis takes no more it stays `walking`, and the sweep finds everything told."""
        try:
            raise_for_code(await self._operations.end_walk(run_id, operation, summary))
        except StoreRefused as error:
            log.warning(CANCEL_END_WALK_FAILED, run_id=run_id, cancel_id=operation.cancel_id, error=str(error))

    async def _publish_behind_barrier(
        self,
        operation: OperationRecord,
        publisher: Publisher,
        levels: Walk,
        follower: Follower,
        first_told: asyncio.Event | None,
    ) -> None:
        """A level is due when the one below it is settled, or after its share of the time that is left."""
        told = 0
        for position, level in enumerate(levels):
            first, told = told, told + len(level.execution_ids)
            await publisher.publish(first, told)
            if first_told is not None:
                first_told.set()
            await signals.reached("cancel.level", f"{operation.cancel_id}:{level.depth}")
            if position + 1 < len(levels):
                now_us = await self._operations.now_us()
                share_s = max(0, operation.deadline_us - now_us) / 1e6 / (len(levels) - position)
                await follower.wait_all_settled(max(BARRIER_LEVEL_MIN_S, share_s))

    async def _drive_behind(self, run_id: str, operation: OperationRecord, results: Results) -> None:
        """Barrier order goes on in the background; the caller has its answer when the first level is told."""
        first_told = asyncio.Event()

        async def drive() -> None:
            try:
                async with self._follower(run_id) as follower:
                    await self._drive(run_id, operation, follower, results, first_told)
            finally:
                first_told.set()

        task = self._in_background(drive(), operation)
        await first_told.wait()
        if task.done():
            await task

    def _in_background(self, drive: Coroutine[Any, Any, None], operation: OperationRecord) -> asyncio.Task[None]:
        task = asyncio.create_task(drive, name=f"broker-drive-{operation.cancel_id}")
        self._driving.add(task)
        task.add_done_callback(self._driven)
        return task

    def _driven(self, task: asyncio.Task[None]) -> None:
        self._driving.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error(CANCEL_FAILED, task=task.get_name(), error=str(task.exception()))

    async def close(self) -> None:
        """Hands what is still being driven to other processes: their sweep takes it over."""
        await self.memory.close()
        for task in list(self._driving):
            task.cancel()
        await asyncio.gather(*self._driving, return_exceptions=True)

    async def _hand_over(self, run_id: str, operation: OperationRecord) -> None:
        """Told what could be told: settle if that was all, else the sweep goes on; nobody has to stay."""
        try:
            code, now_us, unsettled = await asyncio.gather(
                self._settler.settle(run_id, operation),
                self._operations.now_us(),
                self._unsettled(run_id, operation),
            )
            is_settled = code == "settled"
            due_us = now_us + SETTLED_DUE_US if is_settled else schedule.first_look_us(operation, unsettled, now_us)
            await self._settler.leave(run_id, operation, due_us)
        except StoreRefused as error:  # its entry on the work list is due when the lease is over
            log.warning(CANCEL_HAND_OVER_FAILED, run_id=run_id, cancel_id=operation.cancel_id, error=str(error))
        await signals.reached("cancel.handed_over", operation.cancel_id)

    async def _unsettled(self, run_id: str, operation: OperationRecord) -> int:
        """How many may have yet to answer."""
        return 1 if operation.scope is Scope.EXECUTION else await self._reads.unsettled_count(run_id)
