"""Entries of the stream as what they say; what cannot be read is told apart, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.errors import InvalidInput
from broker.ingest.translate import Said, Sourced, sourced
from broker.protocol.events import parse_event
from broker.store.streams import Entry


class Refusal(NamedTuple):
    """Why an event cannot be applied: a code for programs and a text for people."""

    code: str
    reason: str


@dataclass(slots=True)
class Reading:
    """What some entries say. `runs` has for each of `events` the run that it names, empty where it names none.

    `payloads` has all of them by entry id, as text to bury; `dropped` are the ids of what comes from the future.
    """

    payloads: dict[str, str] = field(default_factory=dict)
    events: list[Sourced[Said]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    refused: dict[str, Refusal] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)


def read(entries: Iterable[Entry]) -> Reading:
    """One entry after the other, so that no two events are alive at once: what lives long costs the collector most."""
    reading = Reading()
    for entry_id, payload, fields in entries:
        reading.payloads[entry_id] = " ".join(fields) if payload is None else payload
        try:
            event = parse_event(_bytes(payload, fields))
        except InvalidInput as error:
            reading.refused[entry_id] = Refusal(error.code, str(error))
            continue
        if event is None:
            reading.dropped.append(entry_id)
            continue
        reading.runs.append(event.run_id or "")
        reading.events.append(sourced(entry_id, event))
    return reading


def _bytes(payload: str | None, fields: Sequence[str]) -> bytes:
    if payload is None and not fields:
        raise InvalidInput("entry was deleted from the stream by someone else before it was applied")
    if payload is None:
        named = ", ".join(fields[0::2])
        raise InvalidInput(f"entry without a field `event`; it has {named}"[:300])
    return payload.encode("utf-8", "surrogateescape")
