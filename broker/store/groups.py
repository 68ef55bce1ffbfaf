"""What waits together goes in one script call: a script costs more to begin than an execution costs in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Groups(Generic[Key, Item, Answer]):
    """Collects items of one key and sends them together, at most `limit` at a time.

    While calls of a key are under way, what comes joins the next round: so groups are small when little
    happens, which keeps the latency, and large when much does, which keeps the throughput.
    What `send` raises, everyone in that group gets.
    """

    def __init__(self, send: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Answer]]], limit: int) -> None:
        self._send = send
        self._limit = limit
        self._waiting: dict[Key, deque[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    def add(self, key: Key, item: Item) -> asyncio.Future[Answer]:
        """Queues one item; the future has its answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = deque()
            sender = loop.create_task(self._send_all(key, waiting), name="broker-groups")
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        waiting.append((item, future))
        return future

    async def _send_all(self, key: Key, waiting: deque[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            while waiting:
                everyone = [waiting.popleft() for _ in range(len(waiting))]
                if len(everyone) <= self._limit:
                    await self._send_group(key, everyone)
                    continue
                groups = [everyone[at : at + self._limit] for at in range(0, len(everyone), self._limit)]
                await asyncio.gather(*(self._send_group(key, group) for group in groups))
        finally:
            del self._waiting[key]
            for _, future in waiting:
                future.cancel()

    async def _send_group(self, key: Key, group: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send(key, [item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait, whatever it is
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
