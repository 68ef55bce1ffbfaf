"""The verbs of a worker that has no Redis and speaks through a server: begin, beat, start, ack, finish.

Nothing of a worker lives here but the polls that stand right now: its claims and its heartbeat are in Redis,
so any server process can answer any call of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from broker.errors import Fenced, InvalidInput, NotFound
from broker.protocol.names import check_id, check_worker_id, lone_run
from broker.protocol.states import Disposition, Status, normalise
from broker.store.backend import Backend
from broker.store.claims import Ack, Claims, End, Holder, Registration
from broker.store.reads import Reads
from broker.store.subscriptions import Subscriptions
from broker.worker.cancel_feed import CancelFeed
from broker.worker.long_poll import Beat, LongPoll, Parts
from broker.worker.starting import claim, index, refusal
from broker.worker.told import Answered, RemoteHeld, ToldIntent, told

TOUCH_EVERY_S = 3600.0
TOUCHED_KEPT = 10_000
NOBODY = 0  # an incarnation that no process has


class Started(NamedTuple):
    """`claimed`: run it, with this start number. `cancelled`: do not run it; `intent` says why.

    `start` beside `cancelled` is 0, unless the answer to an earlier start was lost and what it claimed is still
    open: then `finish` gives it back.
    """

    code: str
    start: int
    intent: ToldIntent | None = None


class RemoteWorkers:
    """Workers without Redis, on one backend and one listener, which are the server's own.

    Every method raises InvalidId for what is no id, BrokerUnavailable and StoreRefused.
    """

    def __init__(self, backend: Backend, subscriptions: Subscriptions) -> None:
        self._claims, self._reads = Claims(backend), Reads(backend)
        self._timeout_s = backend.commands.timeout_s
        self._feed = CancelFeed(subscriptions)
        self._parts = Parts(self._claims, self._reads, backend.keys, self._feed, Answered())
        self._standing: set[LongPoll] = set()
        self._closed = False
        self._touched: dict[str, float] = {}

    @property
    def channels(self) -> frozenset[str]:
        """The cancel channels that are heard right now for polls."""
        return self._feed.channels

    @property
    def polls(self) -> int:
        """Long polls that stand right now."""
        return len(self._standing)

    def confirmed(self, channels: Collection[str]) -> None:
        """Called by the owner of the listener at every confirmation."""
        self._feed.confirmed(channels)

    def close(self) -> None:
        """Answers every standing poll now, and lets none stand any more: the server is about to end."""
        self._closed = True
        for poll in self._standing:
            poll.release()
        self._feed.close()

    async def begin(self, worker_id: str, agent_node_id: str = "") -> int:
        """A process begins: its incarnation, and a first beat. Raises WorkerIdInUse while another's heart beats."""
        _check_holder(Holder(worker_id, NOBODY), agent_node_id)
        holder = Holder(worker_id, await self._claims.new_incarnation(worker_id))
        await self.beat(holder, agent_node_id)
        return holder.incarnation

    async def beat(
        self,
        holder: Holder,
        agent_node_id: str = "",
        held: Iterable[tuple[str | None, str, int | None]] = (),
        wait_s: float = 0.0,
    ) -> Beat:
        """A heartbeat; answers what stands against what is `held` (run id, execution id, start number if known).

        With `wait_s` it answers at the first cancel that the worker has not acked, when the worker is fenced, or
        when the time is over; the heart beats meanwhile. Raises InvalidInput for an incarnation that was never
        given.
        """
        _check_holder(holder, agent_node_id)
        named = [(_check_run(run_id), check_id(one, "execution_id"), start) for run_id, one, start in held]
        await self._check_given(holder)
        runs = await self._runs_of(named)
        poll = LongPoll(self._parts, holder, agent_node_id, runs)
        self._standing.add(poll)
        try:
            await self._touch({one.run_id for one in runs})
            return await poll.answer(0.0 if self._closed else wait_s)
        finally:
            self._standing.discard(poll)

    async def start(self, run_id: str | None, what: Registration, holder: Holder) -> Started:
        """Claims, or answers with the cancel. A repeat by the same process answers the same.

        Raises AlreadyTerminal, AlreadyClaimed, Fenced, ParentConflict, TreeTooDeep, ExecutionInOtherRun, and
        InvalidInput for an incarnation that was never given.
        """
        _check_holder(holder, what.agent_node_id)
        check_id(what.execution_id, "execution_id")
        if what.parent_execution_id:
            check_id(what.parent_execution_id, "parent_execution_id")
        run = _check_run(run_id) or await self._run_or_lone(what.execution_id)
        if await self._check_given(holder) > holder.incarnation:
            raise Fenced(f"a newer process runs as {holder.worker_id}; incarnation {holder.incarnation} starts nothing")
        await index(self._claims, run, what.execution_id)
        answer = await claim(self._claims, run, what, holder)
        if answer.code == "claimed":
            return Started("claimed", answer.start)
        if answer.code == "cancelled":
            return Started("cancelled", answer.start, await self._intent(run, what.execution_id, answer.word))
        raise refusal(what.execution_id, what.parent_execution_id, answer)

    async def finish(
        self, run_id: str | None, execution_id: str, holder: Holder, start: int, status: str,
        disposition: Disposition | None = None, detail: str = "",
    ) -> str:  # fmt: skip
        """The holder's end; an EACH word of finish.lua. Raises NotFound.

        Without `disposition` a status that means cancelled is `stopped`, and any other `ended_itself`.
        """
        run = await self._named_or_known(run_id, execution_id, holder)
        by_status = Disposition.STOPPED if normalise(status) is Status.CANCELLED else Disposition.ENDED_ITSELF
        end = End(execution_id, start, status, disposition or by_status, detail)
        code = await self._claims.finish(run, holder, end, patience_s=self._timeout_s)
        return _found(code, execution_id)

    async def ack(self, run_id: str | None, worker_id: str, incarnation: int | None, ack: Ack) -> str:
        """What the holder says; an EACH word of ack.lua. Raises NotFound.

        Without `incarnation` it is the claim's own, where that worker holds it with that start number.
        """
        holder = Holder(worker_id, incarnation or NOBODY)
        run = await self._named_or_known(run_id, ack.execution_id, holder)
        if incarnation is None:
            holder = Holder(worker_id, await self._incarnation_of_claim(run, worker_id, ack))
        (code,) = await self._claims.ack(run, holder, [ack])
        return _found(code, ack.execution_id)

    async def _incarnation_of_claim(self, run_id: str, worker_id: str, ack: Ack) -> int:
        """NOBODY where another claim stands: then the script says what that ack is, late or a repeat."""
        record, slot = await asyncio.gather(
            self._reads.execution(run_id, ack.execution_id), self._reads.slot_of(run_id, worker_id)
        )
        mine = record is not None and record.slot == slot and record.start == str(ack.start)
        return int(record.incarnation) if record is not None and mine else NOBODY

    async def _intent(self, run_id: str, execution_id: str, cancel_id: str) -> ToldIntent:
        intents, operation = await asyncio.gather(
            self._reads.some_intents(run_id, [execution_id]), self._reads.operation(run_id, cancel_id)
        )
        return told(run_id, execution_id, cancel_id, intents.get(execution_id), operation)

    async def _check_given(self, holder: Holder) -> int:
        newest = await self._claims.newest_incarnation(holder.worker_id)
        if holder.incarnation > newest:
            raise InvalidInput(
                f"incarnation: {holder.incarnation} was never given to worker {holder.worker_id}; a heartbeat"
                " without incarnation answers with the one to use"
            )
        return newest

    async def _runs_of(self, held: Sequence[tuple[str | None, str, int | None]]) -> list[RemoteHeld]:
        unnamed = list(dict.fromkeys(one for run_id, one, _ in held if run_id is None))
        known = dict(zip(unnamed, await asyncio.gather(*map(self._run_or_lone, unnamed)), strict=True))
        return [RemoteHeld(known[one] if run_id is None else run_id, one, start) for run_id, one, start in held]

    async def _run_or_lone(self, execution_id: str) -> str:
        return await self._claims.run_of(execution_id) or lone_run(execution_id)

    async def _named_or_known(self, run_id: str | None, execution_id: str, holder: Holder) -> str:
        check_id(execution_id, "execution_id")
        _check_holder(holder)
        run = _check_run(run_id) or await self._claims.run_of(execution_id)
        if run is None:
            raise NotFound(f"execution {execution_id} not found")
        return run

    async def _touch(self, run_ids: Iterable[str]) -> None:
        """Being held is activity of a run; said once an hour."""
        now = asyncio.get_running_loop().time()
        for run_id in run_ids:
            if now - self._touched.get(run_id, now - 2 * TOUCH_EVERY_S) > TOUCH_EVERY_S:
                self._touched.pop(run_id, None)
                self._touched[run_id] = now
                if (await self._reads.run_state(run_id)).exists:  # a name alone must make no keys
                    await self._claims.touch(run_id)
        while len(self._touched) > TOUCHED_KEPT:
            del self._touched[next(iter(self._touched))]


def _found(code: str, execution_id: str) -> str:
    if code == "not_found":
        raise NotFound(f"execution {execution_id} not found")
    return code


def _check_run(run_id: str | None) -> str | None:
    return None if run_id is None else check_id(run_id, "run_id")


def _check_holder(holder: Holder, agent_node_id: str = "") -> None:
    check_worker_id(holder.worker_id)
    if agent_node_id:
        check_id(agent_node_id, "agent_node_id")
