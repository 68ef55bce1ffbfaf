"""Long polls: they wait for an operation, and a server that stops answers them at once with what is known."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Patience:
    """All long polls of one server."""

    def __init__(self) -> None:
        self._stopping = False
        self._polls: set[asyncio.Task[Any]] = set()

    @property
    def waiting(self) -> int:
        """How many polls are under way."""
        return len(self._polls)

    def stop(self) -> None:
        """From here on nobody waits: the polls that are under way are over."""
        self._stopping = True
        for poll in self._polls:
            poll.cancel()

    async def wait(self, asking: Coroutine[Any, Any, T]) -> T | None:
        """What `asking` answers, None where the server stops first. Raises what it raises."""
        if self._stopping:
            asking.close()
            return None
        poll = asyncio.create_task(asking)
        self._polls.add(poll)
        try:
            await asyncio.wait([poll])
        finally:
            self._polls.discard(poll)
            poll.cancel()  # where the request itself has ended
        return None if poll.cancelled() else poll.result()
