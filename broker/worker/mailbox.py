"""From one thread's event loop to another's: however many calls come at once, they cost one wake-up.

Every `call_soon_threadsafe` writes to a socket and so gives the interpreter lock away; with thousands of
cancels in flight two loops that wake each other one by one do little else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Mailbox:
    """Calls into `loop`, from any thread, run there in the order in which they were posted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False

    def post(self, call: Callable[[], object]) -> None:
        """Queues one call. Raises RuntimeError where the loop is closed."""
        # Append, then look: `empty` takes the flag down before it empties, so that no call is left behind.
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self.empty)

    def empty(self) -> None:
        """On the loop: runs what was posted; one that fails is reported by the loop and stops no other."""
        self._woken = False
        while self._calls:
            self._loop.call_soon(self._calls.popleft())
