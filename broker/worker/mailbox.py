"""From one thread's event loop to another's: however many calls come at once, they cost one wake-up.

Every `call_soon_threadsafe` writes to a socket and so gives the interpreter lock away; with thousands of
cancels in flight two loops that wake each other one by one do little else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from broker.store.patience import Patience


class Mailbox:
    """Calls into `loop`, from any thread, run there in the order in which they were posted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False
        self._patiences: dict[float, Patience] = {}

    def post(self, call: Callable[[], object]) -> None:
        """Queues one call. Raises RuntimeError where the loop is closed."""
        # Append, then look: `empty` takes the flag down before it empties, so that no call is left behind.
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self.empty)

    def post_if_open(self, call: Callable[[], object]) -> None:
        """The same for an answer: where the loop is closed nobody waits for it any more."""
        with contextlib.suppress(RuntimeError):
            self.post(call)

    def wait_at_most(self, answer: asyncio.Future[Any], seconds: float) -> None:
        """On the loop: `answer` gets a TimeoutError when it has not come by then."""
        patience = self._patiences.get(seconds)
        if patience is None:
            patience = self._patiences[seconds] = Patience(seconds)
        patience.watch(answer)

    def empty(self) -> None:
        """On the loop: runs what was posted; one that fails is reported by the loop and stops no other."""
        self._woken = False
        for _ in range(len(self._calls)):  # what these post in their turn has woken the loop again
            call = self._calls.popleft()
            try:
                call()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as the loop does with its own calls
                context = {"message": f"a call into this loop failed: {call!r}", "exception": error}
                self.loop.call_exception_handler(context)
