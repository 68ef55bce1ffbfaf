"""Which workers there are: an index of the last heartbeat of each, so that nobody scans the keys of Redis."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from broker.protocol.records import as_time
from broker.store.backend import Backend
from broker.store.keys import DAY_S

KEPT_US = DAY_S * 1_000_000
PAGE = 1000
HEARTBEAT_TTL_S = 15  # what workers have unless they were told otherwise


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker process, as its last heartbeat said.

    `alive` is False where the heartbeat has expired: a suspicion, no proof. `agent_node_id` and `held`, the number
    of executions, are known while it is alive. `last_seen` is Redis's time, in UTC, `age` how long that is ago, in
    seconds.
    """

    worker_id: str
    incarnation: int
    agent_node_id: str | None
    alive: bool
    held: int | None
    last_seen: datetime
    age: float


@dataclass(frozen=True, slots=True)
class Workers:
    """A page of workers, by their ids. `next_cursor` None: this was the last page."""

    workers: tuple[WorkerView, ...]
    next_cursor: str | None


class Roster:
    """The index of workers. One that crashed stands in it for a day, one that left in good order does not."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def seen(self, worker_id: str, at_us: str) -> None:
        """A heart has beaten at `at_us`, decimal text; who was not seen for a day is taken off."""
        command, key = self._backend.commands.command, self._backend.keys.roster
        await asyncio.gather(
            command("ZADD", key, at_us, worker_id),
            command("ZREMRANGEBYSCORE", key, "-inf", f"({int(at_us) - KEPT_US}"),
        )

    async def gone(self, worker_id: str) -> None:
        """The worker has left in good order."""
        await self._backend.commands.command("ZREM", self._backend.keys.roster, worker_id)

    async def alive(self) -> int:
        """How many hearts have beaten within the life of a heartbeat; one look-up, however many workers there are."""
        command = self._backend.commands.command
        seconds, microseconds = await command("TIME")
        since_us = (int(seconds) - HEARTBEAT_TTL_S) * 1_000_000 + int(microseconds)
        return int(await command("ZCOUNT", self._backend.keys.roster, str(since_us), "+inf"))

    async def page(self, cursor: str, limit: int) -> Workers:
        """At most `limit` workers whose ids come after `cursor`, "" for the first.

        By id and not by time, because hearts beat while somebody turns the pages.
        """
        seen = await self._all_after(cursor)
        first = heapq.nsmallest(limit, seen)
        return Workers(await self._views({one: seen[one] for one in first}), first[-1] if len(seen) > limit else None)

    async def longest_silent(self, limit: int) -> Workers:
        """Those whose last heartbeat is the oldest, silent ones first, then by id: whose heart beats keep their order.

        `next_cursor` only says whether there are more.
        """
        command, key = self._backend.commands.command, self._backend.keys.roster
        number, flat = await asyncio.gather(
            command("ZCARD", key), command("ZRANGE", key, "0", str(limit - 1), "WITHSCORES")
        )
        seen = {one: int(float(at_us)) for one, at_us in zip(flat[0::2], flat[1::2], strict=True)}
        views = sorted(
            await self._views(seen), key=lambda one: (one.alive, 0.0 if one.alive else -one.age, one.worker_id)
        )
        return Workers(tuple(views), flat[-2] if int(number) > limit else None)

    async def _views(self, seen: Mapping[str, int]) -> tuple[WorkerView, ...]:
        seconds, microseconds = await self._backend.commands.command("TIME")
        now_us = int(seconds) * 1_000_000 + int(microseconds)
        return tuple(await asyncio.gather(*(self._view(one, at_us, now_us) for one, at_us in seen.items())))

    async def _all_after(self, after: str) -> dict[str, int]:
        found: dict[str, int] = {}
        cursor = "0"
        while True:
            cursor, page = await self._backend.commands.command(
                "ZSCAN", self._backend.keys.roster, cursor, "COUNT", PAGE
            )
            pairs = zip(page[0::2], page[1::2], strict=True)
            found.update({one: int(float(at_us)) for one, at_us in pairs if one > after})
            if str(cursor) == "0":
                return found

    async def _view(self, worker_id: str, indexed_us: int, now_us: int) -> WorkerView:
        command, keys = self._backend.commands.command, self._backend.keys
        beating, agent_node, held, beat_us = await command(
            "HMGET", keys.worker(worker_id), "incarnation", "agent_node_id", "held", "seen_at_us"
        )
        newest, declared = None, None
        if beating is None:
            newest, declared = await asyncio.gather(
                command("GET", keys.incarnation(worker_id)), command("GET", keys.declared_dead(worker_id))
            )
        last_us = int(beat_us or indexed_us)
        return WorkerView(
            worker_id=worker_id,
            incarnation=int(beating or 0) or _last_process(int(newest or 0), declared),
            agent_node_id=agent_node or None,
            alive=beating is not None,
            held=int(held) if held is not None else None,
            last_seen=as_time(last_us),
            age=max(0, now_us - last_us) / 1e6,
        )


def _last_process(newest: int, declared_dead: str | None) -> int:
    """A declaration of death raises the counter above the process that it is about."""
    declared = int(declared_dead.partition("|")[0]) if declared_dead else 0
    return declared if 0 < declared == newest - 1 else newest
