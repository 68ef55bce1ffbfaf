"""Worker processes: which is the newest of its id, whether its heart beats, and that one is declared dead."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from broker.errors import NotFound, WorkerAlive, WorkerIdInUse
from broker.observe.events import WORKER_DECLARED_DEAD
from broker.observe.log import get_logger
from broker.protocol.messages import DoYouHoldMessage
from broker.store.backend import Backend
from broker.store.keys import DAY_S, HOUR_S
from broker.store.roster import Roster

log = get_logger("broker.store")

WORKER_TRACE_S = 7 * DAY_S  # as long as a run without activity lives: after that nobody asks for the worker

COUNTER_S = 30 * DAY_S
"""A counter that ends while a process of its id lives would give an incarnation twice, so each beat moves its end. For
ever would be a key for each process that ever started: the default worker id is its own."""


class Holder(NamedTuple):
    """Who speaks: a worker process and its incarnation."""

    worker_id: str
    incarnation: int


class Hearts:
    """The heartbeats and incarnations of workers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._roster = Roster(backend)

    async def new_incarnation(self, worker_id: str) -> int:
        """Raises the counter of a worker id. Raises WorkerIdInUse while another process under it is alive."""
        if await self.is_alive(worker_id):
            raise WorkerIdInUse(
                f"worker id {worker_id} belongs to a process whose heart beats; wait for it to end or choose another id"
            )
        command, key = self._backend.commands.command, self._backend.keys.incarnation(worker_id)
        incarnation, _ = await asyncio.gather(command("INCR", key), command("EXPIRE", key, COUNTER_S))
        return int(incarnation)

    async def declare_dead(self, worker_id: str, incarnation: int, reason: str) -> int:
        """Somebody with the right says that this process is gone: what it holds of cancelled work is lost.

        Answers the counter of the worker id, now above that incarnation; a repeat changes nothing. Raises
        WorkerAlive while its heart beats, NotFound where the worker id never had that incarnation.
        """
        commands, keys = self._backend.commands, self._backend.keys
        # Heartbeat and counter may lie in two Cluster slots, so this is two steps, and a heart may beat in between
        # (a process that was stopped and goes on). It harms nothing: a beat is answered with the counter, so such a
        # process finds itself fenced, stops what it holds and says so, and that takes the loss back. The other order
        # would fence a worker that is alive.
        if await commands.command("HGET", keys.worker(worker_id), "incarnation") == str(incarnation):
            raise WorkerAlive(
                f"the heart of worker {worker_id}, incarnation {incarnation}, beats; end its process, and wait until "
                "its heartbeat has expired"
            )
        # The reason first: who sees the counter raised finds it. Alone it means nothing.
        note = f"{incarnation}|{reason}"
        known = await commands.command("GET", keys.incarnation(worker_id))
        if int(known or 0) == incarnation:
            await commands.command("SET", keys.declared_dead(worker_id), note, "EX", WORKER_TRACE_S)
        call = commands.call(self._backend.scripts.declare_dead, (keys.incarnation(worker_id),), dead=str(incarnation))
        code, *newest = await call
        if code == "unknown":
            raise NotFound(f"worker {worker_id} has no incarnation {incarnation}; the newest is {known or 'none'}")
        log.warning(WORKER_DECLARED_DEAD, worker_id=worker_id, incarnation=incarnation, reason=reason)
        return int(newest[0])

    async def newest_incarnation(self, worker_id: str) -> int:
        """The counter of a worker id, 0 where no process of it was ever known."""
        return int(await self._backend.commands.command("GET", self._backend.keys.incarnation(worker_id)) or 0)

    async def is_alive(self, worker_id: str) -> bool:
        return bool(await self._backend.commands.command("EXISTS", self._backend.keys.worker(worker_id)))

    async def has_died(self, worker_id: str) -> bool:
        """Its heart beat once and does not any more. One that never beat is no evidence of anything."""
        commands, keys = self._backend.commands, self._backend.keys
        alive, ever = await asyncio.gather(
            commands.command("EXISTS", keys.worker(worker_id)), commands.command("EXISTS", keys.incarnation(worker_id))
        )
        return bool(ever and not alive)

    async def heartbeat(self, holder: Holder, agent_node_id: str, held: int, ttl_s: float) -> int:
        """Says that the worker lives; answers the newest incarnation of its id."""
        beat = self._backend.commands.call(
            self._backend.scripts.heartbeat,
            (self._backend.keys.worker(holder.worker_id),),
            incarnation=str(holder.incarnation),
            agent_node=agent_node_id,
            held=str(held),
            ttl_ms=str(int(ttl_s * 1000)),
        )
        counter_key = self._backend.keys.incarnation(holder.worker_id)
        newest = self._backend.commands.command("GETEX", counter_key, "EX", COUNTER_S)
        (_, of_record, *seen_at_us), counter = await asyncio.gather(beat, newest)
        if seen_at_us:
            key = self._backend.keys.last_seen(holder.worker_id)
            last_seen = self._backend.commands.command("SET", key, seen_at_us[0], "EX", WORKER_TRACE_S)
            await asyncio.gather(last_seen, self._roster.seen(holder.worker_id, seen_at_us[0]))
        return max(int(of_record), int(counter or 0))

    async def add_counts(self, holder: Holder, number: int, rises: Mapping[str, int]) -> None:
        """Adds what a process has counted of itself to the counts of all; a `number` that was taken adds nothing."""
        keys = self._backend.keys
        await self._backend.commands.call(
            self._backend.scripts.add_own_counts,
            (keys.counts, keys.own_counts_told(holder.worker_id, holder.incarnation)),
            *(text for field, by in rises.items() for text in (field, str(by))),
            number=str(number),
            told_ttl_s=str(HOUR_S),
        )

    async def leave(self, holder: Holder) -> None:
        """The worker has ended in good order: its record goes at once."""
        code, *_ = await self._backend.commands.call(
            self._backend.scripts.leave,
            (self._backend.keys.worker(holder.worker_id),),
            incarnation=str(holder.incarnation),
        )
        if code == "left":
            await self._roster.gone(holder.worker_id)

    async def ask(self, run_id: str, holder: Holder, claims: Sequence[tuple[str, int]]) -> None:
        """Asks a worker process on its control channel whether it holds these: execution id and start number."""
        message = DoYouHoldMessage(run_id=run_id, executions=list(claims), incarnation=holder.incarnation)
        channel = self._backend.keys.control_channel(holder.worker_id)
        await self._backend.commands.publish(channel, message.model_dump_json().encode())
