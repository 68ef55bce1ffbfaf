"""What the broker can say in figures, for whoever shows them: /metrics does, and any other page can."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from broker.cancel.census import Census, OpenWork
from broker.ingest.consumer import IngestCounts
from broker.store.backend import Backend
from broker.store.counts import Counts
from broker.store.roster import Roster
from broker.store.streams import EventStream, StreamState
from broker.store.subscriptions import Subscriptions


class SharedFigures(NamedTuple):
    """The same from every replica. `counts` has the counters of broker/store/counts.py, `open` what is open now."""

    counts: Mapping[str, int]
    open: OpenWork
    stream: StreamState
    workers: int


class OwnFigures(NamedTuple):
    """Of this process. `canary_age_s` is the time since a message to itself came back, None where none was sent."""

    reconnects: Mapping[str, int]
    canary_failures: int
    canary_age_s: float | None
    ingested: IngestCounts


class Figures:
    """Reads, and writes nothing."""

    def __init__(
        self,
        backend: Backend,
        subscriptions: Subscriptions,
        counts: Counts,
        census: Census,
        stream: EventStream,
        ingested: IngestCounts,
    ) -> None:
        self._commands, self._subscriptions = backend.commands, subscriptions
        self._counts, self._census, self._roster, self._stream = counts, census, Roster(backend), stream
        self._ingested = ingested

    async def shared(self) -> SharedFigures:
        """Cheap to ask often: what is open is read once a second at most. Raises BrokerUnavailable."""
        counts, work, stream, workers = await asyncio.gather(
            self._counts.read(), self._census.take(), self._stream.state(), self._roster.alive()
        )
        return SharedFigures(counts, work, stream, workers)

    def own(self) -> OwnFigures:
        """At once, also while Redis is away."""
        reconnects = {"commands": max(0, self._commands.connects - 1), "listener": self._subscriptions.reconnects}
        return OwnFigures(
            reconnects, self._subscriptions.canary_failures, self._subscriptions.canary_age_s(), self._ingested
        )
