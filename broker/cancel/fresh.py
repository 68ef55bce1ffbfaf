"""One answer for everybody who asks at about the same time: what it costs does not depend on how many look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
FRESH_S = 1.0
SHARE = 0.1


class Fresh(Generic[T]):
    """The latest answer of `read`, a second old at most, or ten times as old as it took to read.

    So at most a tenth of a process is busy with it, however much there is to read and however many ask. It is read
    when somebody asks, once at a time; who asks meanwhile gets the same. `clock` counts seconds.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._clock = read, clock
        self._reading = asyncio.Lock()
        self._latest: tuple[float, T] | None = None

    async def take(self) -> T:
        """Raises what `read` raises; then the next one who asks reads again."""
        async with self._reading:
            if self._latest is None or self._clock() >= self._latest[0]:
                began = self._clock()
                answer = await self._read()
                ended = self._clock()
                self._latest = ended + max(FRESH_S, (ended - began) / SHARE), answer
            return self._latest[1]
