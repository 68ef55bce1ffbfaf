"""Pure: how a body ended → what is reported of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from broker.errors import ExecutionCancelled
from broker.protocol.states import Disposition

DETAIL_LIMIT = 200


class Outcome(NamedTuple):
    """The status as reported, how far the cancel had to do with it, and a word of why."""

    status: str
    disposition: Disposition
    detail: str = ""


NEVER_RAN = Outcome("cancelled", Disposition.STOPPED, "cancelled before its first line")
STOPPED = Outcome("cancelled", Disposition.STOPPED)


def outcome_of(execution_id: str, error: BaseException | None, *, delivered: bool, seen: bool) -> Outcome:
    """`stopped` where the work ended because of the cancel, else it ended by itself.

    `delivered` says that the cancel had been handed to the body, `seen` that a thread looked and saw it: one
    that then returns has stopped, a coroutine that returns has swallowed its cancel.
    """
    if error is None:
        return STOPPED if seen else Outcome("succeeded", Disposition.ENDED_ITSELF)
    if isinstance(error, asyncio.CancelledError) and (delivered or seen):
        return STOPPED
    if isinstance(error, ExecutionCancelled) and error.execution_id == execution_id:
        return STOPPED  # what `raise_if_cancelled` raised: it looked, and went
    because = seen or (delivered and any(isinstance(one, asyncio.CancelledError) for one in _history(error)))
    disposition = Disposition.STOPPED if because else Disposition.ENDED_ITSELF
    if isinstance(error, asyncio.CancelledError):
        return Outcome("cancelled", disposition)
    return Outcome("failed", disposition, f"{type(error).__name__}: {error}"[:DETAIL_LIMIT])


def _history(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and what it gathers: a cleanup that raises does so because of a cancel."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        at = ahead.pop()
        if at is None or id(at) in seen:
            continue
        seen.add(id(at))
        yield at
        ahead += [at.__cause__, at.__context__]
        if isinstance(at, BaseExceptionGroup):
            ahead += at.exceptions
