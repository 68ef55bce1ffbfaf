"""Waiting for an operation together: a thousand long polls cost Redis no more than one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from broker.cancel.report import CancelReport

Follow = Callable[[str, str], Coroutine[Any, Any, CancelReport]]


@dataclass(slots=True, eq=False)
class _Watch:
    task: asyncio.Task[CancelReport]
    waiting: int = 0


class Watches:
    """One wait for each operation that somebody waits for, shared by all who do.

    `follow(run_id, cancel_id)` returns the report of the operation once it is settled.
    """

    def __init__(self, follow: Follow) -> None:
        self._follow = follow
        self._watches: dict[tuple[str, str], _Watch] = {}

    async def settled(self, run_id: str, cancel_id: str, wait_s: float) -> CancelReport | None:
        """The report when it is settled, None when the time is over. Raises what following raises."""
        key = run_id, cancel_id
        watch = self._watches.get(key)
        if watch is None or watch.task.done():  # one that has ended answers nobody who comes later
            watch = self._watches[key] = _Watch(asyncio.create_task(self._follow(run_id, cancel_id)))
        watch.waiting += 1
        try:
            await asyncio.wait([watch.task], timeout=wait_s)
        finally:
            watch.waiting -= 1
            if watch.waiting == 0:
                watch.task.cancel()
                if self._watches.get(key) is watch:
                    del self._watches[key]
        return watch.task.result() if watch.task.done() and not watch.task.cancelled() else None

    async def close(self) -> None:
        """Ends every wait: who still waits is answered as if the time were over."""
        tasks = [watch.task for watch in self._watches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
