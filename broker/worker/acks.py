"""What a worker says of what it was told to stop: in batches, and until it is accepted (trap T25)."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from broker.errors import StoreRefused
from broker.observe import signals
from broker.observe.events import WORKER_REFUSED
from broker.observe.log import get_logger
from broker.protocol.states import Disposition
from broker.store.claims import Ack, Claims, Holder, Loss
from broker.store.operations import CHUNK
from broker.worker.held import Held

log = get_logger("broker.worker")
T = TypeVar("T")

FOR_EVER = float("inf")
NOT_HELD = "not_held"
PAUSE_S = (0.1, 5.0)


async def insist(say: Callable[[], Awaitable[T]]) -> T:
    """Says it until Redis takes it: one that is full or read-only now may not be so a moment later."""
    pause_s, longest_s = PAUSE_S
    while True:
        try:
            return await say()
        except StoreRefused as error:
            log.warning(WORKER_REFUSED, error=str(error), retry_in_s=pause_s)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        pause_s = min(longest_s, pause_s * 2)


class Acks:
    """The acks of one worker process; lives on the listener's loop."""

    def __init__(self, claims: Claims, holder: Holder) -> None:
        self._claims = claims
        self._holder = holder
        self._waiting: defaultdict[str, list[Ack]] = defaultdict(list)
        self._sending: set[asyncio.Task[object]] = set()

    def say(self, held: Held, disposition: Disposition, detail: str = "") -> None:
        """Queues one; what is said in the same turn of the loop goes in one script call."""
        waiting = self._waiting[held.run_id]
        waiting.append(Ack(held.execution_id, held.start, held.next_seq(), disposition, detail=detail))
        if len(waiting) == 1:
            self._keep(self._send(held.run_id))

    def not_held(self, run_id: str, claims: Sequence[tuple[str, int]]) -> None:
        """These claims, execution id and start number, are not held here: they are lost."""
        self._keep(self._disown(run_id, [Loss(one, start, NOT_HELD) for one, start in claims]))

    async def _disown(self, run_id: str, losses: Sequence[Loss]) -> None:
        await signals.reached("worker.disowning", run_id)
        await insist(partial(self._claims.lose, run_id, self._holder, losses, patience_s=FOR_EVER))

    def _keep(self, sending: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, run_id: str) -> None:
        acks = self._waiting.pop(run_id)
        await signals.reached("worker.acking", run_id)
        for at in range(0, len(acks), CHUNK):
            chunk = acks[at : at + CHUNK]
            await insist(partial(self._claims.ack, run_id, self._holder, chunk, patience_s=FOR_EVER))

    async def flush(self) -> None:
        """Returns when everything that was said is written down."""
        await asyncio.gather(*self._sending, return_exceptions=True)
