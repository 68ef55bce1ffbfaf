"""One PSUBSCRIBE that sees every cancel message, as an operator with `redis-cli` would."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from broker.protocol.messages import CancelMessage, parse_message
from tests.support.points import PATIENCE_S

PATTERN = "cb:*:cancel:*"


class Observer:
    """The cancel messages of all runs, in the order in which the server sent them."""

    def __init__(self, client: Redis, pubsub: Any) -> None:
        self._client = client
        self._pubsub = pubsub
        self._messages: list[CancelMessage] = []
        self._marks: dict[str, asyncio.Event] = {}

    async def messages(self) -> list[CancelMessage]:
        """Everything published before this call: a message of our own, on the same connection, comes after it."""
        mark = f"cb:observer:cancel:{secrets.token_hex(8)}"
        self._marks[mark] = asyncio.Event()
        await self._client.publish(mark, "")
        async with asyncio.timeout(PATIENCE_S):
            await self._marks[mark].wait()
        return list(self._messages)

    async def first_attempts(self) -> list[str]:
        """Execution ids of the messages with attempt 1, in their order."""
        return [message.execution_id for message in await self.messages() if message.attempt == 1]

    async def read(self) -> None:
        """Reads until it is cancelled."""
        while True:
            reply = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=PATIENCE_S)
            if reply is not None:
                self._take(reply["channel"].decode(), reply["data"])

    def _take(self, channel: str, payload: bytes) -> None:
        if channel in self._marks:
            self._marks[channel].set()
            return
        message = parse_message(payload)
        assert isinstance(message, CancelMessage), payload
        assert channel == f"cb:{{{message.run_id}}}:cancel:{message.execution_id}"
        self._messages.append(message)


@asynccontextmanager
async def observing(url: str) -> AsyncIterator[Observer]:
    """Subscribed, and confirmed, from before the block."""
    async with Redis.from_url(url) as client, client.pubsub() as pubsub:
        await pubsub.psubscribe(PATTERN)
        assert (await pubsub.get_message(timeout=PATIENCE_S))["type"] == "psubscribe"
        observer = Observer(client, pubsub)
        reading = asyncio.create_task(observer.read())
        try:
            yield observer
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def assert_each_once(told: Iterable[str], expected: Iterable[str]) -> None:
    """Exactly these, each exactly once."""
    counted = Counter(told)
    assert set(counted) == set(expected)
    assert {one: count for one, count in counted.items() if count > 1} == {}


def assert_children_first(told: Iterable[str], parents: Mapping[str, str]) -> None:
    """Every child was told before its parent. `parents` maps child → parent."""
    position = {execution_id: number for number, execution_id in enumerate(told)}
    wrong = [
        (child, parent)
        for child, parent in parents.items()
        if child in position and parent in position and position[child] > position[parent]
    ]
    assert wrong == []
