"""Test signals put to use: hold the code at a point, let its process die there, or do something there once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from broker.observe import signals

PATIENCE_S = 20.0
"""For what must come. Nothing waits this long unless the test is about to fail."""


class Died(BaseException):
    """The process ends here: no handler of the code under test takes it for an error."""


class Held:
    """Code that stands at a point since `arrived()`, until `release()`. It may be of another thread: a worker's is."""

    def __init__(self) -> None:
        self._reached: Future[None] = Future()
        self._go_on: Future[None] = Future()

    async def arrived(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(asyncio.wrap_future(self._reached))

    def release(self) -> None:
        if not self._go_on.done():
            self._go_on.set_result(None)

    async def stand(self) -> None:
        self._reached.set_result(None)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(asyncio.wrap_future(self._go_on))


@contextmanager
def holding(point: str, number: int = 1) -> Iterator[Held]:
    """Holds whoever passes `point` as the `number`th, once; at the end of the block at the latest it goes on."""
    held = Held()
    with doing(point, held.stand, number):
        try:
            yield held
        finally:
            held.release()


@contextmanager
def dying(point: str, number: int = 1) -> Iterator[asyncio.Event]:
    """Whoever passes `point` as the `number`th dies there, once; the event says that it has happened."""
    dead = asyncio.Event()

    async def die() -> None:
        dead.set()
        raise Died(point)

    with doing(point, die, number):
        yield dead


@contextmanager
def doing(point: str, action: Callable[[], Awaitable[None]], number: int = 1) -> Iterator[None]:
    """Runs `action` when `point` is passed for the `number`th time, before the code goes on."""
    passed = 0

    async def listener(reached: str, subject: str) -> None:
        nonlocal passed
        if reached == point:
            passed += 1
            if passed == number:
                await action()

    with signals.listening(listener):
        yield


@contextmanager
def recording() -> Iterator[list[tuple[str, str]]]:
    """Every point that is passed while the block runs, with its subject."""
    passed: list[tuple[str, str]] = []

    async def listener(point: str, subject: str) -> None:
        passed.append((point, subject))

    with signals.listening(listener):
        yield passed
