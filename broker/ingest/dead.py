"""Refused events: listing them, and putting them back once what was wrong is mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from broker.errors import InvalidInput, NotFound
from broker.protocol.names import check_position
from broker.store.streams import DeadEntry as DeadEntry  # noqa: PLC0414 - pages of it leave this layer
from broker.store.streams import EventStream

PAGE_LIMIT = 1000


class DeadPage(NamedTuple):
    """Refused events, oldest first; `cursor` is where the next page begins, None after the last."""

    entries: tuple[DeadEntry, ...]
    cursor: str | None


async def list_dead(stream: EventStream, cursor: str | None = None, limit: int = 100) -> DeadPage:
    """One page. Raises InvalidInput for a cursor or a limit that is none."""
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidInput(f"limit {limit}: allowed are 1 to {PAGE_LIMIT}")
    found = await stream.dead(check_dead_id(cursor) if cursor else "-", limit + 1)
    more = len(found) > limit
    return DeadPage(tuple(found[:limit]), found[limit - 1].dead_id if more else None)


async def replay_dead(stream: EventStream, dead_ids: Sequence[str]) -> dict[str, str]:
    """Puts these back on the stream, in this order, and takes them off the dead one: dead id → new entry id.

    Raises InvalidInput for what is no id or was too large to be kept whole, NotFound for what is not there;
    those before it are replayed. An event that is refused again is back with a new id.
    """
    replayed: dict[str, str] = {}
    for dead_id in map(check_dead_id, dead_ids):
        entry = await stream.dead_entry(dead_id)
        if entry is None:
            raise NotFound(f"dead event {dead_id} not found")
        if entry.cut:
            raise InvalidInput(f"dead event {dead_id} was too large to be kept whole; publish it again")
        replayed[dead_id] = await stream.exhume(entry)
    return replayed


def check_dead_id(value: str) -> str:
    """Raises InvalidInput."""
    return check_position(value, "dead event id")
