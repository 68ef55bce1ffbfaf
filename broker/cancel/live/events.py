"""Pure: the events of a run, the place of each, and what the durable records say has happened since a place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.errors import InvalidInput
from broker.protocol.records import AckRecord, AuditEntry, OperationRecord, stamp
from broker.protocol.states import Disposition

OVERLAP_US = 1_000_000
"""How far before its place a resume begins: so much may Redis's clock be set back without an ack being missed."""
_PLACE = re.compile(r"(\d{1,17})-(\d{1,17}-\d{1,17})", re.ASCII)


class Place(NamedTuple):
    """Up to where a stream has told everything; it means the same to every replica, and after a restart.

    `heard_us` is the Redis time of the last ack, `position` that of the last entry in the run's log. Its text
    `<heard_us>-<position>` is the id of an event; "0" is the beginning.
    """

    heard_us: int
    position: str

    def __str__(self) -> str:
        return f"{self.heard_us}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises InvalidInput."""
        if text == "0":
            return cls(0, "0-0")
        found = _PLACE.fullmatch(text)
        if found is None:
            raise InvalidInput(f"Last-Event-ID {text[:80]!r}: allowed are the id of an event, or 0 for the beginning")
        return cls(int(found[1]), found[2])


@dataclass(frozen=True, slots=True)
class Acked:
    """What was said of one execution, by whoever holds it or by the broker.

    `replayed`: read from the records; the same execution, disposition and time may have been told before.
    """

    execution_id: str
    disposition: str
    at_us: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class OperationChanged:
    """An operation as it stands now, and how many executions of its run are told and not settled."""

    operation: OperationRecord
    outstanding: int


@dataclass(frozen=True, slots=True)
class Noted:
    """An entry of the run's log."""

    entry: AuditEntry


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things stand. `why` is `start`, `slow` (events were dropped before it) or `missed` (they are told again)."""

    why: str
    at_us: int
    operations: tuple[OperationRecord, ...]
    dispositions: Mapping[str, int]
    outstanding: int


Event = Acked | OperationChanged | Noted | Snapshot
Placed = tuple[Place, Event]


def moved(place: Place, event: Event) -> Place:
    """The place behind the event. It follows the last ack, also where the clock was set back: told twice, not never."""
    if isinstance(event, Acked):
        return Place(event.at_us, place.position)
    if isinstance(event, Noted):
        return Place(place.heard_us, event.entry.position)
    return place


def before(position: str, other: str) -> bool:
    """Whether a position in the log comes before the other one."""
    return _parts(position) < _parts(other)


def _parts(position: str) -> tuple[int, int]:
    at_ms, number = position.split("-")
    return int(at_ms), int(number)


def since(place: Place, acks: Mapping[str, AckRecord], entries: Sequence[AuditEntry]) -> Iterator[Event]:
    """What the records say has happened behind the place, oldest first.

    A word that has been replaced by a later one is gone from the records; the first hearing and the end are not.
    Whatever is heard and not settled is told again, because its last word has no time of its own.
    """
    walked = any(entry.event == "published" for entry in entries)
    told = [*_acked(place.heard_us - OVERLAP_US, acks, walked=walked), *map(_at_noted, entries)]
    told.sort(key=lambda one: one[0])
    return (event for _, event in told)


def never_started(acks: Mapping[str, AckRecord]) -> list[Acked]:
    """What cancels have settled themselves: nobody says so on the channel."""
    found = [
        Acked(one, ack.disposition, int(ack.settled_at_us))
        for one, ack in acks.items()
        if ack.disposition == Disposition.NEVER_STARTED and ack.settled_at_us
    ]
    return sorted(found, key=lambda one: one.at_us)


def _acked(since_us: int, acks: Mapping[str, AckRecord], *, walked: bool) -> Iterable[tuple[tuple[int, int], Event]]:
    for execution_id, ack in acks.items():
        received_us, settled_us = stamp(ack.received_at_us), stamp(ack.settled_at_us)
        word = Disposition(ack.disposition)
        if not word.settled:
            if received_us is not None:
                yield _at_acked(execution_id, ack.disposition, received_us)
            continue
        if received_us is not None and received_us != settled_us and received_us >= since_us:
            yield _at_acked(execution_id, Disposition.RECEIVED, received_us)
        by_walk = walked and word is Disposition.NEVER_STARTED
        if settled_us is not None and (settled_us >= since_us or by_walk):
            yield _at_acked(execution_id, ack.disposition, settled_us)


def _at_acked(execution_id: str, disposition: str, at_us: int) -> tuple[tuple[int, int], Event]:
    return (at_us, 0), Acked(execution_id, str(disposition), at_us, replayed=True)


def _at_noted(entry: AuditEntry) -> tuple[tuple[int, int], Event]:
    """Behind the acks of its moment: what it says of them is true then."""
    return (entry.at_us, 1), Noted(entry)
