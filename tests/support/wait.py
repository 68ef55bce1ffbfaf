"""Waiting for something to become true: the one place in the tests that may sleep.

A fixed sleep is either too short on a busy machine or too long everywhere else. A condition is neither, and when it
never comes true its description says what the test was waiting for.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

FIRST_PAUSE_S = 0.001
"""Short, because most conditions are true within a few milliseconds."""

LONGEST_PAUSE_S = 0.05
"""The pause doubles up to this, so that a long wait costs no core."""


class WaitTimeout(AssertionError):
    """The condition stayed false. An AssertionError, so that pytest shows a failed test and not a broken one."""


def _failure(description: str, timeout: float, last: object) -> WaitTimeout:
    return WaitTimeout(f"waited {timeout:g} s for: {description} (last value: {last!r})")


@overload
async def wait_until(predicate: Callable[[], Awaitable[T]], description: str, timeout: float = 10.0) -> T: ...
@overload
async def wait_until(predicate: Callable[[], T], description: str, timeout: float = 10.0) -> T: ...
async def wait_until(
    predicate: Callable[[], T | Awaitable[T]],
    description: str,
    timeout: float = 10.0,
) -> T:
    """Call `predicate`, plain or async, until it answers something true, and return that.

    `timeout` is in seconds. The predicate is called once more after the time is over, so that a machine that stood
    still does not fail a condition that has come true meanwhile. What it raises is passed on.
    """
    give_up_at = time.monotonic() + timeout
    pause = FIRST_PAUSE_S
    while True:
        over = time.monotonic() >= give_up_at
        answer = predicate()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if over:
            raise _failure(description, timeout, value)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)


def wait_until_sync(
    predicate: Callable[[], T],
    description: str,
    timeout: float = 10.0,
) -> T:
    """`wait_until` for code without an event loop."""
    give_up_at = time.monotonic() + timeout
    pause = FIRST_PAUSE_S
    while True:
        over = time.monotonic() >= give_up_at
        value = predicate()
        if value:
            return value
        if over:
            raise _failure(description, timeout, value)
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)


async def next_turn() -> None:
    """Lets everything run that is ready now; no time passes."""
    await asyncio.sleep(0)


async def spread(seconds: float) -> None:
    """Spreads a load over time: it paces what the test does and waits for nothing."""
    await asyncio.sleep(seconds)


def block_the_loop(seconds: float) -> None:
    """Holds the calling thread, and with it its event loop: where being blocked is what is tested."""
    time.sleep(seconds)
