"""What this process has opened is asserted again when Redis has lost data (trap T8).

After a restart from an old file, or a failover to a replica that was behind, an accepted cancel may be gone. Its
opener still knows its terms; the tree it does not keep: workers say again what they hold.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple

from broker.errors import BrokerError
from broker.observe import signals
from broker.observe.events import (
    CANCEL_MEMORY_FULL,
    CANCEL_PRUNE_FAILED,
    CANCEL_REASSERT_FAILED,
    CANCEL_REASSERT_RETRIED,
    CANCEL_REASSERTED,
)
from broker.observe.log import get_logger
from broker.protocol.records import OperationRecord
from broker.store.operations import Asserted, CancelTerms, Operations
from broker.store.reads import Reads

log = get_logger("broker.cancel")

REMEMBERED = 20_000  # about 1 kB each; beyond that the oldest are given up, and a warning says so
PRUNE_EVERY_S = 60.0
AT_ONCE = 16
PAUSE_S = 1.0
SETTLE_AFTER_US = 15_000_000  # the heartbeat's TTL: every live worker has met the new server by then


class Remembered(NamedTuple):
    """An open operation of ours: its terms, and nothing of its tree."""

    run_id: str
    terms: CancelTerms
    requested_at_us: int
    give_up_us: int


class _Again:
    """One operation that is being asserted again: `gated` when it is durable, `task` until it is walked."""

    def __init__(self) -> None:
        self.gated = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Reassertion:
    """The open operations of this process. `drive` walks one whose lease this process has taken."""

    def __init__(
        self, operations: Operations, reads: Reads, drive: Callable[[str, OperationRecord], Awaitable[None]]
    ) -> None:
        self._operations = operations
        self._reads = reads
        self._drive = drive
        self._open: dict[str, Remembered] = {}
        self._again: dict[str, _Again] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._pruned_at = 0.0
        self._pruning: asyncio.Task[None] | None = None

    def remember(self, run_id: str, operation: OperationRecord, terms: CancelTerms) -> None:
        """It is open, and this process has opened it."""
        if len(self._open) >= REMEMBERED:
            oldest = next(iter(self._open))
            del self._open[oldest]
            log.warning(CANCEL_MEMORY_FULL, dropped=oldest, remembered=REMEMBERED)
        self._open[operation.cancel_id] = Remembered(run_id, terms, operation.requested_at_us, operation.give_up_us)
        now = asyncio.get_running_loop().time()
        if now - self._pruned_at > PRUNE_EVERY_S:
            self._pruned_at = now
            self._pruning = asyncio.create_task(self._prune(), name="broker-prune")

    def escalated(self, operation: OperationRecord) -> None:
        """A repeat has changed when the forced step comes."""
        one = self._open.get(operation.cancel_id)
        if one is not None:
            terms = replace(one.terms, force_after_us=operation.force_after_us)
            self._open[operation.cancel_id] = one._replace(terms=terms)

    def forget(self, cancel_id: str) -> None:
        """It is settled."""
        self._open.pop(cancel_id, None)

    def server_changed(self) -> None:
        """Another server process answers. Called before any command is sent there."""
        for cancel_id, one in self._open.items():
            before = self._again.get(cancel_id)
            if before is not None and before.task is not None:
                before.task.cancel()
            again = self._again[cancel_id] = _Again()
            again.task = asyncio.create_task(self._insist(cancel_id, one, again), name=f"broker-reassert-{cancel_id}")
            again.task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._again = {one: again for one, again in self._again.items() if again.task is not task}
        if not task.cancelled() and task.exception() is not None:
            log.error(CANCEL_REASSERT_FAILED, task=task.get_name(), error=str(task.exception()))

    async def _insist(self, cancel_id: str, one: Remembered, again: _Again) -> None:
        while True:
            try:
                async with self._at_once:
                    operation = await self._assert(cancel_id, one)
                again.gated.set()
                await signals.reached("reassert.gated", cancel_id)
                if operation is not None:
                    await self._drive(one.run_id, operation)
            except BrokerError as error:
                log.warning(CANCEL_REASSERT_RETRIED, run_id=one.run_id, cancel_id=cancel_id, error=str(error))
                await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            else:
                return

    async def _assert(self, cancel_id: str, one: Remembered) -> OperationRecord | None:
        """Closes its gate again; the operation where it is ours to drive now, None where another process does."""
        if await self._operations.now_us() > one.give_up_us:
            self.forget(cancel_id)
            return None
        asserted = Asserted(one.requested_at_us, SETTLE_AFTER_US)
        await self._operations.assert_again(one.run_id, cancel_id, one.terms, asserted)
        operation = await self._operations.lease(one.run_id, cancel_id)
        log.warning(CANCEL_REASSERTED, run_id=one.run_id, cancel_id=cancel_id)
        if isinstance(operation, str) or operation.state != "open":
            return None
        return operation

    async def gated(self, cancel_id: str) -> bool:
        """True where it was lost and stands again now; False where nothing of it is being asserted."""
        again = self._again.get(cancel_id)
        if again is None:
            return False
        await again.gated.wait()
        return True

    async def walked(self, cancel_id: str) -> None:
        """Returns when everything of it is told again, at once where nothing of it is being asserted."""
        again = self._again.get(cancel_id)
        if again is not None and again.task is not None and again.task is not asyncio.current_task():
            await asyncio.wait([again.task])

    async def _prune(self) -> None:
        """Settled, or gone with its run: then there is nothing to assert."""
        for cancel_id, one in list(self._open.items()):
            try:
                operation = await self._reads.operation(one.run_id, cancel_id)
            except BrokerError as error:
                log.debug(CANCEL_PRUNE_FAILED, error=str(error))
                return
            if cancel_id not in self._again and (operation is None or operation.state == "settled"):
                self.forget(cancel_id)

    async def close(self) -> None:
        tasks = [again.task for again in self._again.values() if again.task is not None]
        tasks += [self._pruning] if self._pruning is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
