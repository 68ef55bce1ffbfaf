"""The heartbeat, and the poll that rides on it: a run whose epoch has changed has its intents read.

The epoch that counts is the one read *before* the last read of the intents, so a cancel that falls
between the two reads is found by the next beat (DESIGN section 3, "push and poll").
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING

from broker.errors import BrokerUnavailable, StoreRefused
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
        self._seen_epochs: dict[str, str] = {}
        self._touched: dict[str, float] = {}

    async def keep(self) -> None:
        """Beats until it is cancelled; Redis being away only delays it."""
        while True:
            await asyncio.sleep(self._settings.heartbeat_s * random.uniform(0.8, 1.0))  # noqa: S311 - jitter
            try:
                await self.beat()
            except (BrokerUnavailable, StoreRefused) as error:
                log.warning("heartbeat.failed", worker_id=self._settings.worker_id, error=str(error))

    async def beat(self) -> None:
        """One heartbeat and one poll. Raises BrokerUnavailable."""
        listener, settings = self._listener, self._settings
        newest = await self._claims.heartbeat(
            listener.holder, settings.agent_node_id, len(listener.held), settings.heartbeat_ttl_s
        )
        if newest > listener.holder.incarnation:
            listener.fence(newest)
        if settings.poll:
            await self.poll()
        await self._touch_runs()

    async def poll(self) -> None:
        by_run: defaultdict[str, list[str]] = defaultdict(list)
        for held in self._listener.held.values():
            by_run[held.run_id].append(held.execution_id)
        epochs = await self._claims.epochs(list(by_run))
        for run_id, epoch in epochs.items():
            if self._seen_epochs.get(run_id, "0") != epoch:
                await self._listener.read_intents(by_run[run_id])
                self._seen_epochs[run_id] = epoch
        self._seen_epochs = {run_id: self._seen_epochs[run_id] for run_id in by_run if run_id in self._seen_epochs}

    def forget(self) -> None:
        """After a confirmation nothing that was seen before counts."""
        self._seen_epochs.clear()

    async def _touch_runs(self) -> None:
        now = asyncio.get_running_loop().time()
        runs = {held.run_id for held in self._listener.held.values()}
        self._touched = {run_id: self._touched.get(run_id, now) for run_id in runs}
        for run_id, last in self._touched.items():
            if now - last > TOUCH_EVERY_S:
                self._touched[run_id] = now
                await self._claims.touch(run_id)
