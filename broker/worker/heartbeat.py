"""The heartbeat, and the poll that rides on it (DESIGN section 3, "push and poll")."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from broker.observe import signals
from broker.observe.events import HEARTBEAT_FAILED
from broker.observe.log import get_logger
from broker.store.claims import Claims

if TYPE_CHECKING:
    from broker.worker.listener import Listener

log = get_logger("broker.worker")
TOUCH_EVERY_S = 3600.0


class Heartbeat:
    """Says that the worker lives, finds newer incarnations, and polls. One per listener."""

    def __init__(self, listener: Listener, claims: Claims) -> None:
        self._listener = listener
        self._claims = claims
        self._settings = listener.settings
        self._touched: dict[str, float] = {}

    async def keep(self) -> None:
        """Beats until it is cancelled or fenced; a heart that stopped would be a worker taken for dead."""
        while not self._listener.fenced:
            await asyncio.sleep(self._settings.heartbeat_s * random.uniform(0.8, 1.0))  # noqa: S311 - jitter
            try:
                await self.beat()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next beat is due
                log.warning(HEARTBEAT_FAILED, worker_id=self._settings.worker_id, error=str(error))

    async def beat(self) -> None:
        """One heartbeat and one poll. Raises BrokerUnavailable."""
        listener, settings = self._listener, self._settings
        await signals.reached("worker.beating", settings.worker_id)
        newest = await self._claims.heartbeat(
            listener.holder, settings.agent_node_id, len(listener.held), settings.heartbeat_ttl_s
        )
        if newest > listener.holder.incarnation:
            listener.fence(newest)
        if settings.poll and not listener.fenced:
            await listener.intents.poll()
        await listener.links.tell()
        await self._touch_runs()

    async def _touch_runs(self) -> None:
        now = asyncio.get_running_loop().time()
        runs = {held.run_id for held in self._listener.held.values()}
        self._touched = {run_id: self._touched.get(run_id, now) for run_id in runs}
        for run_id, last in self._touched.items():
            if now - last > TOUCH_EVERY_S:
                self._touched[run_id] = now
                await self._claims.touch(run_id)
