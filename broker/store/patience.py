"""Waiting, but not for ever: one timer for all that wait equally long.

`asyncio.timeout` costs a timer, a handle and a scheduled call for each wait; with thousands of waits at a time the
garbage collector is busy with little else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Patience:
    """Gives each answer at most `seconds`, then a TimeoutError. Lives on the loop that is running when it is made."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: asyncio.Future[Any]) -> None:
        """From now on the time of `answer` runs."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((self._loop.time() + self._seconds, answer))
        if self._timer is None:
            self._timer = self._loop.call_at(waiting[0][0], self._look)

    def _look(self) -> None:
        now, waiting = self._loop.time(), self._waiting
        while waiting and (waiting[0][0] <= now or waiting[0][1].done()):
            _, answer = waiting.popleft()
            if not answer.done():
                answer.set_exception(TimeoutError())
        self._timer = self._loop.call_at(waiting[0][0], self._look) if waiting else None
