"""The second chance: what the first driver could not finish, any process finishes.

The work list has one entry an operation. Whoever finds one due takes its lease, so two sweeps never do the
same; walks it again if its driver died or its tree has changed; loses what is proved gone; settles it; or tells
again what was told and is not settled, with growing pauses.
"""

from __future__ import annotations

import asyncio
import random

from broker.cancel import schedule
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

GIVEN_UP_US = 300 * schedule.SECOND_US  # below OPEN_WITHIN_US: what is open is found by those who count it
ORPHAN_ENTRY_US = 60_000_000  # an entry without an operation may be one whose gate is about to close (30 s)
FEW = 2  # summaries at a time: a hundred operations fall due together, and a cancel that is asked for goes between


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
        self._summing_up = asyncio.Semaphore(FEW)

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
        operation, now_us = await asyncio.gather(self._operations.lease(run_id, cancel_id), self._operations.now_us())
        if isinstance(operation, str):
            await self._not_ours(run_id, cancel_id, operation, now_us)
            return
        await signals.reached("sweep.leased", cancel_id)
        if operation.state == "open" and (operation.phase == "walking" or operation.dirty):
            log.info(CANCEL_TAKEOVER, run_id=run_id, cancel_id=cancel_id, fence=operation.fence)
            await self._engine.resume(run_id, operation)
            return
        if operation.state == "settled":
            async with self._summing_up:
                await self._summary.write(run_id, operation)
                await self._leave(run_id, operation, now_us + SETTLED_AGAIN_US)
            return
        await self._leave(run_id, operation, await self._second_chance(run_id, operation, now_us))

    async def _leave(self, run_id: str, operation: OperationRecord, due_us: int) -> None:
        await self._settler.leave(run_id, operation, due_us)
        await self._counts.carry(run_id)

    async def _not_ours(self, run_id: str, cancel_id: str, code: str, now_us: int) -> None:
        """Another process drives it; or the operation is gone with its run, or is not there yet."""
        due_us = await self._operations.due_at(run_id, cancel_id)
        if code == "busy":
            await self._operations.reschedule(run_id, cancel_id, now_us + schedule.SECOND_US)
        elif due_us is not None and now_us - due_us > ORPHAN_ENTRY_US:
            await self._operations.drop(run_id, cancel_id)

    async def _second_chance(self, run_id: str, operation: OperationRecord, now_us: int) -> int:
        """Settles or tells again; answers when the operation is due next."""
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
        look_us = await self._redeliver(run_id, operation, unsettled, now_us)
        is_settled_by_looking = operation.scope is Scope.SUBTREE and len(waiting) > len(in_scope)
        return min(look_us, schedule.crowded_look_us(operation, now_us)) if is_settled_by_looking else look_us

    async def _remark(self, run_id: str, operation: OperationRecord, event: str) -> None:
        left = await self._reads.in_scope(run_id, operation, await self._reads.unsettled(run_id))
        log.warning(_REMARKS[event], run_id=run_id, cancel_id=operation.cancel_id, still_running=len(left))
        await self._operations.remark(run_id, operation, event, f"{len(left)} still running")

    async def _redeliver(self, run_id: str, operation: OperationRecord, unsettled: Unsettled, now_us: int) -> int:
        intents = await self._claims.intents(run_id, unsettled.records)
        forcing, crowd_us = schedule.is_forcing(operation, now_us), schedule.crowd_pause_us(len(unsettled.records))

        def told_again_us(one: str, intent: IntentRecord) -> int:
            return crowd_us + schedule.told_again_us(intent, heard=unsettled.is_heard(one))

        due_us = {one: told_again_us(one, intent) for one, intent in intents.items()}
        due = [one for one, intent in intents.items() if due_us[one] <= now_us or (forcing and not intent.force)]
        for at in range(0, len(due), CHUNK):
            await self._operations.redeliver(run_id, operation, due[at : at + CHUNK], force=forcing)
        await self._liveness.ask(run_id, unsettled, due)
        await signals.reached("sweep.redelivered", f"{operation.cancel_id}:{len(due)}")
        for one in due:
            due_us[one] = told_again_us(one, intents[one]._replace(attempt=intents[one].attempt + 1))
        return schedule.next_look_us(operation, due_us.values(), now_us)
