"""Test signals: named points that code passes. In production nobody listens and passing one costs a look-up.

A test that wants an order of events installs a listener, and so waits for the point instead of sleeping,
holds the code there, or lets the process die there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, str], Awaitable[None]]
_listeners: list[Listener] = []


async def reached(point: str, subject: str = "") -> None:
    """Says that `point` was reached; `subject` is the id that it is about."""
    for listener in tuple(_listeners):
        await listener(point, subject)


def watched() -> bool:
    """Whether anybody listens: for who would pass a point once for each of thousands."""
    return bool(_listeners)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Calls `listener(point, subject)` at every point while the block runs; what it raises, the code raises."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
