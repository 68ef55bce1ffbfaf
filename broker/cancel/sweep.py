"""The second chance: what the first driver could not finish, any process finishes.

The work list has one entry an operation. Whoever finds one due takes its lease, so two sweeps never do the
same; walks it again if its driver died or its tree has changed; loses what is proved gone; settles it; or tells
again what was told and is not settled, with growing pauses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

from broker.cancel.engine import Engine
from broker.cancel.liveness import Liveness, Unsettled
from broker.cancel.settle import SETTLED_DUE_US, Settler
from broker.cancel.summary import Summary
from broker.errors import BrokerError
from broker.observe import signals
from broker.observe.events import CANCEL_GIVEN_UP, CANCEL_OVERDUE, CANCEL_TAKEOVER, SWEEP_FAILED, SWEEP_LOOK_FAILED
from broker.observe.log import get_logger
from broker.protocol.records import IntentRecord, OperationRecord
from broker.protocol.states import Scope
from broker.store.claims import Claims
from broker.store.counts import Counts
from broker.store.operations import CHUNK, SETTLED_AGAIN_US, Operations
from broker.store.reads import Reads

log = get_logger("broker.cancel")
_REMARKS = {"overdue": CANCEL_OVERDUE, "given_up": CANCEL_GIVEN_UP}

SECOND_US = 1_000_000
GIVEN_UP_US = 300 * SECOND_US  # below OPEN_WITHIN_US: what is open is found by those who count it
ORPHAN_ENTRY_US = 60_000_000  # an entry without an operation may be one whose gate is about to close (30 s)
LONGEST_PAUSE_US = 60 * SECOND_US
AT_ONCE = 1_000  # executions that have answered within the first pause, where their workers live
ANSWER_US = 200  # for each one more; measured: 150 to 450 on two cores that everything shares
LONGEST_LOOK_US = 15 * SECOND_US  # a heart that has stopped, and a process that has replaced one, are seen by looking


class Sweep:
    """Looks at the work list every second, as long as `keep` runs."""

    def __init__(self, operations: Operations, reads: Reads, claims: Claims, engine: Engine, counts: Counts) -> None:
        self._operations = operations
        self._reads = reads
        self._claims = claims
        self._settler = Settler(operations, reads)
        self._liveness = Liveness(reads, claims)
        self._engine = engine
        self._counts = counts
        self._summary = Summary(operations, reads)

    async def keep(self, every_s: float = 1.0) -> None:
        """Sweeps until it is cancelled; an error costs one look. A look that takes long delays no other."""
        looking: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                await asyncio.sleep(every_s * random.uniform(0.7, 1.0))  # noqa: S311 - jitter
                looking = {cancel_id: task for cancel_id, task in looking.items() if not task.done()}
                for run_id, cancel_id in await self._due():
                    if cancel_id not in looking:
                        looking[cancel_id] = asyncio.create_task(self._look_surely(run_id, cancel_id))
        finally:
            for task in looking.values():
                task.cancel()
            await asyncio.gather(*looking.values(), return_exceptions=True)

    async def _due(self) -> list[tuple[str, str]]:
        try:
            return await self._operations.due()
        except BrokerError as error:
            log.warning(SWEEP_FAILED, error=str(error))
            return []

    async def _look_surely(self, run_id: str, cancel_id: str) -> None:
        try:
            await self.look(run_id, cancel_id)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not end the sweep of the others
            kind = type(error).__name__
            log.warning(SWEEP_LOOK_FAILED, run_id=run_id, cancel_id=cancel_id, kind=kind, error=str(error))

    async def once(self) -> None:
        """One look at everything that is due, one after the other."""
        for run_id, cancel_id in await self._operations.due():
            await self.look(run_id, cancel_id)

    async def look(self, run_id: str, cancel_id: str) -> None:
        """Does for one operation what is due, under its lease."""
        operation = await self._operations.lease(run_id, cancel_id)
        now_us = await self._operations.now_us()
        if isinstance(operation, str):
            await self._not_ours(run_id, cancel_id, operation, now_us)
            return
        await signals.reached("sweep.leased", cancel_id)
        if operation.state == "open" and (operation.phase == "walking" or operation.dirty):
            log.info(CANCEL_TAKEOVER, run_id=run_id, cancel_id=cancel_id, fence=operation.fence)
            await self._engine.resume(run_id, operation)
            return
        due_us = await self._second_chance(run_id, operation, now_us)
        await self._settler.leave(run_id, operation, due_us)
        await self._counts.carry(run_id)

    async def _not_ours(self, run_id: str, cancel_id: str, code: str, now_us: int) -> None:
        """Another process drives it; or the operation is gone with its run, or is not there yet."""
        due_us = await self._operations.due_at(run_id, cancel_id)
        if code == "busy":
            await self._operations.reschedule(run_id, cancel_id, now_us + SECOND_US)
        elif due_us is not None and now_us - due_us > ORPHAN_ENTRY_US:
            await self._operations.drop(run_id, cancel_id)

    async def _second_chance(self, run_id: str, operation: OperationRecord, now_us: int) -> int:
        """Settles or tells again; answers when the operation is due next."""
        if operation.state == "settled":
            await self._summary.write(run_id, operation)
            return now_us + SETTLED_AGAIN_US
        waiting = await self._reads.unsettled(run_id)
        in_scope = await self._reads.in_scope(run_id, operation, waiting)
        unsettled = await self._liveness.look(run_id, in_scope)
        await self._liveness.lose(run_id, unsettled)
        if await self._settler.settle(run_id, operation) == "settled":
            return now_us + SETTLED_DUE_US
        if now_us > operation.deadline_us and "overdue" not in operation.remarked:
            await self._remark(run_id, operation, "overdue")
        if now_us > operation.give_up_us:
            if "given_up" not in operation.remarked:
                await self._remark(run_id, operation, "given_up")
            return now_us + GIVEN_UP_US
        due_us = await self._redeliver(run_id, operation, unsettled, now_us)
        is_settled_by_looking = operation.scope is Scope.SUBTREE and len(waiting) > len(in_scope)
        return min(due_us, _crowded_due_us(operation, now_us)) if is_settled_by_looking else due_us

    async def _remark(self, run_id: str, operation: OperationRecord, event: str) -> None:
        left = await self._reads.in_scope(run_id, operation, await self._reads.unsettled(run_id))
        log.warning(_REMARKS[event], run_id=run_id, cancel_id=operation.cancel_id, still_running=len(left))
        await self._operations.remark(run_id, operation, event, f"{len(left)} still running")

    async def _redeliver(self, run_id: str, operation: OperationRecord, unsettled: Unsettled, now_us: int) -> int:
        intents = await self._claims.intents(run_id, unsettled.records)
        forcing, crowd_us = _is_forcing(operation, now_us), crowd_pause_us(len(unsettled.records))
        due_us = {one: crowd_us + _due_us(intent, heard=unsettled.is_heard(one)) for one, intent in intents.items()}
        due = [one for one, intent in intents.items() if due_us[one] <= now_us or (forcing and not intent.force)]
        for at in range(0, len(due), CHUNK):
            await self._operations.redeliver(run_id, operation, due[at : at + CHUNK], force=forcing)
        await self._liveness.ask(run_id, unsettled, due)
        await signals.reached("sweep.redelivered", f"{operation.cancel_id}:{len(due)}")
        for one in due:
            told = intents[one]._replace(attempt=intents[one].attempt + 1)
            due_us[one] = crowd_us + _due_us(told, heard=unsettled.is_heard(one))
        return now_us + _next_look_us(operation, due_us.values(), now_us)


def _crowded_due_us(operation: OperationRecord, now_us: int) -> int:
    """In a run in which others wait, too, no ack settles a subtree: found at most a quarter of its age too late."""
    return now_us + max(SECOND_US, (now_us - operation.requested_at_us) // 4)


def _is_forcing(operation: OperationRecord, now_us: int) -> bool:
    after_us = operation.force_after_us
    return after_us is not None and now_us >= operation.requested_at_us + after_us


def _due_us(intent: IntentRecord, *, heard: bool) -> int:
    """When it is to be told again. One that was heard only cleans up: it is told at the longest pause."""
    if heard:
        return intent.published_at_us + told_for_us(intent.attempt - 1) + LONGEST_PAUSE_US
    return intent.published_at_us + told_for_us(intent.attempt)


def told_for_us(attempt: int) -> int:
    """When attempt n + 1 is due, from the first: 1 s, 3 s, 7 s, … and then every minute."""
    return (
        sum(min(SECOND_US << n, LONGEST_PAUSE_US) for n in range(min(attempt, 7)))
        + max(0, attempt - 7) * LONGEST_PAUSE_US
    )


def crowd_pause_us(unsettled: int) -> int:
    """Longer for each while many have yet to answer: they were told a moment ago, and stand in a queue.

    To tell a hundred thousand again while their workers are at it is to make them answer twice. As they settle the
    pause goes, and a message that was lost is found by its worker's poll meanwhile.
    """
    return min(max(0, unsettled - AT_ONCE) * ANSWER_US, LONGEST_PAUSE_US)


def _next_look_us(operation: OperationRecord, due_us: Iterable[int], now_us: int) -> int:
    """Until the next attempt of any, with jitter; a forced step that is still to come is not slept through."""
    waits = [one - now_us for one in due_us]
    if operation.force_after_us is not None and not _is_forcing(operation, now_us):
        waits.append(operation.requested_at_us + operation.force_after_us - now_us)
    if now_us < operation.deadline_us:
        waits.append(operation.deadline_us - now_us)
    shortest = min(waits, default=SECOND_US)
    pause_us = max(SECOND_US // 4, min(shortest, LONGEST_LOOK_US))
    return round(pause_us * random.uniform(1.0, 1.2))  # noqa: S311 - jitter
