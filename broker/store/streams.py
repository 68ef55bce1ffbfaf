"""The event stream: one consumer group of all replicas, a dead stream beside it, and what is known of both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from broker.errors import StoreRefused
from broker.store.backend import Backend
from broker.store.commands import Commands
from broker.store.groups import Groups

GROUP = "ingest"
FIELD = "event"
LANES_A_CALL = 100
ACKS_A_CALL = 1000
DEAD_LIMIT = 10_000
KEPT_BYTES = 65_536  # of a refused payload: enough for every event that could have been accepted


class Entry(NamedTuple):
    """One entry of the stream; `payload` is None where it has no field `event`, `fields` then shows what it had."""

    entry_id: str
    payload: str | None
    fields: Sequence[str] = ()


class DeadEntry(NamedTuple):
    """A refused event; `dead_id` begins with the Redis time of the refusal in ms. `cut`: not all of it was kept."""

    dead_id: str
    source_id: str
    code: str
    reason: str
    payload: str
    cut: bool = False


class Delivered(NamedTuple):
    """An entry that is not acknowledged, and how often it was given to a consumer."""

    entry_id: str
    deliveries: int


class StreamState(NamedTuple):
    """`backlog` counts entries nobody has read, `pending` read and not applied, `lag_s` is the age of the oldest."""

    backlog: int
    pending: int
    lag_s: float
    dead: int
    consumers: int


class EventStream:
    """Writing, acknowledging and looking; safe to use from many tasks. `consumer` names this replica."""

    def __init__(self, backend: Backend, consumer: str) -> None:
        self._backend = backend
        self._key, self._dead = backend.keys.events, backend.keys.dead_events
        self._command = backend.commands.command
        self._acks: Groups[str, Sequence[str], None] = Groups(self._acknowledge_group, LANES_A_CALL)
        self.consumer = consumer

    # --- writing ----------------------------------------------------------------------------------------

    async def publish(self, payloads: Sequence[str]) -> list[str]:
        """Appends events; what waits together is one round trip. Answers their ids."""
        ids = await asyncio.gather(*(self._command("XADD", self._key, "*", FIELD, one) for one in payloads))
        return [str(one) for one in ids]

    async def bury(self, entry_id: str, payload: str, code: str, reason: str) -> None:
        """Keeps a refused event with its reason; the caller acknowledges it afterwards."""
        kept = payload[:KEPT_BYTES]
        fields = ("code", code, "reason", reason, "source", entry_id, FIELD, kept)
        cut = ("cut", str(len(payload))) if len(kept) < len(payload) else ()
        await self._command("XADD", self._dead, "MAXLEN", "~", DEAD_LIMIT, "*", *fields, *cut)

    async def dead(self, after: str = "-", limit: int = 100) -> list[DeadEntry]:
        """Refused events, oldest first, that come after `after` (a dead id, `-` for the first)."""
        first = after if after == "-" else f"({after}"
        found = await self._command("XRANGE", self._dead, first, "+", "COUNT", str(limit))
        return [_dead_entry(dead_id, fields) for dead_id, fields in found]

    async def dead_entry(self, dead_id: str) -> DeadEntry | None:
        found = await self._command("XRANGE", self._dead, dead_id, dead_id)
        return _dead_entry(*found[0]) if found else None

    async def exhume(self, dead: DeadEntry) -> str:
        """Puts a refused event back on the stream, then takes it off the dead one. Answers its new id."""
        (entry_id,) = await self.publish([dead.payload])
        await self._command("XDEL", self._dead, dead.dead_id)
        return entry_id

    # --- the group --------------------------------------------------------------------------------------

    async def ensure_group(self) -> None:
        """Makes stream and group where they are not; a new group begins with the oldest entry that there is."""
        try:
            await self._command("XGROUP", "CREATE", self._key, GROUP, "0", "MKSTREAM")
        except StoreRefused as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def unacknowledged(self, idle_ms: int, after: str, limit: int) -> list[Delivered]:
        """Entries that some consumer was given so long ago, with ids above `after` (`-` for all)."""
        start = after if after == "-" else f"({after}"
        found = await self._command("XPENDING", self._key, GROUP, "IDLE", str(idle_ms), start, "+", str(limit))
        return [Delivered(str(entry_id), int(deliveries)) for entry_id, _, _, deliveries in found]

    async def take_over(self, entry_ids: Sequence[str], idle_ms: int) -> list[Entry]:
        """These are this consumer's now, but for what somebody else has taken meanwhile: one more delivery of each."""
        if not entry_ids:
            return []
        return _entries(await self._command("XCLAIM", self._key, GROUP, self.consumer, str(idle_ms), *entry_ids))

    async def ours(self, after: str, limit: int) -> list[Entry]:
        """Entries that this consumer was given and has not acknowledged, with ids above `after` (`-` for all).

        It is no delivery, as a second XREADGROUP would be: what waits for Redis to recover is no poison. But
        nobody else takes them over for a while.
        """
        start = after if after == "-" else f"({after}"
        found = await self._command("XPENDING", self._key, GROUP, start, "+", str(limit), self.consumer)
        entry_ids = [str(one[0]) for one in found]
        if not entry_ids:
            return []
        await self._command("XCLAIM", self._key, GROUP, self.consumer, "0", *entry_ids, "JUSTID")
        reads = (self._command("XRANGE", self._key, entry_id, entry_id) for entry_id in entry_ids)
        contents = await asyncio.gather(*reads)
        return [
            _entry(entry_id, read[0][1] if read else None) for entry_id, read in zip(entry_ids, contents, strict=True)
        ]

    def acknowledge(self, entry_ids: Sequence[str]) -> asyncio.Future[None]:
        """These entries are applied, or buried. What waits together goes together."""
        return self._acks.add(GROUP, entry_ids)

    async def _acknowledge_group(self, group: str, several: Sequence[Sequence[str]]) -> list[None]:
        entry_ids = [entry_id for some in several for entry_id in some]
        pages = [entry_ids[at : at + ACKS_A_CALL] for at in range(0, len(entry_ids), ACKS_A_CALL)]
        await asyncio.gather(*(self._command("XACK", self._key, group, *page) for page in pages))
        return [None] * len(several)

    async def trim(self) -> int:
        """Drops what every replica is done with: below the oldest pending entry, and nothing unread.

        The last delivered id is read first: what is delivered after that has a higher one, and what was
        delivered before and is not acknowledged is then among the pending.
        """
        group = await self._group()
        if group is None:
            return 0
        pending = await self._command("XPENDING", self._key, GROUP)
        oldest = pending[1] if int(pending[0]) else group["last-delivered-id"]
        return int(await self._command("XTRIM", self._key, "MINID", oldest))

    async def forget_idle(self, idle_ms: int) -> list[str]:
        """Takes consumers off the group that have not read for so long and have nothing pending."""
        forgotten = []
        for fields in await self._command("XINFO", "CONSUMERS", self._key, GROUP):
            one = dict(zip(fields[0::2], fields[1::2], strict=True))
            if one["name"] != self.consumer and int(one["idle"]) > idle_ms and await self.forget(str(one["name"])):
                forgotten.append(str(one["name"]))
        return forgotten

    async def forget(self, consumer: str) -> bool:
        script = self._backend.scripts.forget_consumer
        (code,) = await self._backend.commands.call(script, (self._key,), group=GROUP, consumer=consumer)
        return str(code) == "forgotten"

    # --- looking ----------------------------------------------------------------------------------------

    async def state(self) -> StreamState:
        """How far the ingest is behind; all zeros where nobody ever published or consumed."""
        dead, length = await asyncio.gather(self._command("XLEN", self._dead), self._command("XLEN", self._key))
        group = await self._group() if length else None
        if group is None:
            return StreamState(int(length), 0, await self._age_s("-") if length else 0.0, int(dead), 0)
        pending, unread = int(group["pending"]), f"({group['last-delivered-id']}"
        oldest, next_unread = unread, await self._command("XRANGE", self._key, unread, "+", "COUNT", "1")
        if pending:
            oldest = (await self._command("XPENDING", self._key, GROUP))[1]
        backlog = _backlog(group.get("lag"), int(length) - pending) if next_unread else 0
        return StreamState(backlog, pending, await self._age_s(oldest), int(dead), int(group["consumers"]))

    async def _group(self) -> dict[str, Any] | None:
        try:
            groups = await self._command("XINFO", "GROUPS", self._key)
        except StoreRefused as error:
            if "no such key" not in str(error):
                raise
            return None
        named = [dict(zip(fields[0::2], fields[1::2], strict=True)) for fields in groups]
        return next((group for group in named if group["name"] == GROUP), None)

    async def _age_s(self, first: str) -> float:
        """Age of the first entry from `first` on; 0 where there is none."""
        found, (seconds, microseconds) = await asyncio.gather(
            self._command("XRANGE", self._key, first or "-", "+", "COUNT", "1"), self._command("TIME")
        )
        if not found:
            return 0.0
        return max(0.0, int(seconds) + int(microseconds) / 1e6 - int(found[0][0].split("-")[0]) / 1e3)


class EventReader:
    """Reads for one consumer, on a connection of its own: a read that blocks holds nothing else up.

    A read is sent once and never again by the connection itself: what was delivered and got lost on the way is
    not acknowledged, and `EventStream.ours` finds it.
    """

    def __init__(self, url: str, stream: EventStream, backend: Backend, *, timeout_s: float) -> None:
        self._commands = Commands(url, timeout_s=timeout_s, client_name="broker-ingest")
        self._key, self._consumer = backend.keys.events, stream.consumer

    async def read(self, count: int, block_ms: int) -> list[Entry]:
        """New entries; waits for one at most so long, never for ever (trap T46)."""
        options = ("COUNT", str(count), "BLOCK", str(max(1, block_ms)))
        answer = await self._commands.command(
            "XREADGROUP", "GROUP", GROUP, self._consumer, *options, "STREAMS", self._key, ">", patience_s=0.0
        )
        return _entries(answer[0][1]) if answer else []

    async def close(self) -> None:
        await self._commands.close()


def _entries(found: Sequence[Any]) -> list[Entry]:
    return [_entry(*one) for one in found if one is not None]


def _entry(entry_id: str, fields: Sequence[str] | None) -> Entry:
    """Fields are None for a pending entry that somebody has deleted from the stream."""
    fields = fields or ()
    if len(fields) == 2 and fields[0] == FIELD:
        return Entry(entry_id, fields[1])
    named = dict(zip(fields[0::2], fields[1::2], strict=True))
    return Entry(entry_id, named.get(FIELD), fields)


def _backlog(lag: int | None, others: int) -> int:
    """At least one is unread; `others` are in the stream and not pending.

    Redis cannot say the lag where entries were deleted one by one, and where somebody trimmed unread ones it counts
    them for ever.
    """
    return max(1, others if lag is None else min(int(lag), others))


def _dead_entry(dead_id: str, fields: Sequence[str]) -> DeadEntry:
    named = dict(zip(fields[0::2], fields[1::2], strict=True))
    cut = "cut" in named
    return DeadEntry(dead_id, named["source"], named["code"], named["reason"], named[FIELD], cut)
