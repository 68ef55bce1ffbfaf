"""Hearing of cancels. Three ways lead to one read of the durable intents, each sufficient alone:

push, a message on the execution's channel, which is only a hint to read now (trap T33); reconcile, at every
repeated confirmation, because what was published before it is gone (trap T3); and poll, with each heartbeat.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

from broker.errors import BrokerUnavailable, CancelCause, InvalidInput, StoreRefused
from broker.observe import signals
from broker.observe.events import INTENTS_READ_FAILED, MESSAGE_REFUSED
from broker.observe.log import get_logger
from broker.protocol.messages import CancelMessage, parse_message
from broker.protocol.records import IntentRecord
from broker.store.claims import Claims
from broker.worker.acks import Acks
from broker.worker.causes import Causes
from broker.worker.ghosts import Ghosts
from broker.worker.held import Held

log = get_logger("broker.worker")

RECEIVED_AFTER_S = 0.05  # PROTOCOL: `received` is worth a message only where stopping takes longer
CROWD_S = 0.0003  # longer for each that is stopping already: about what a stop takes where all cores are busy

NAMED_READ = 16  # operations that messages name, read with the intents; what is left over costs a round trip


class Intents:
    """Finds the cancels of what is `held`, and hands each to its body once; lives on the listener's loop."""

    def __init__(self, held: Mapping[str, Held], claims: Claims, causes: Causes, acks: Acks, ghosts: Ghosts) -> None:
        self._held = held
        self._claims = claims
        self._causes = causes
        self._acks = acks
        self._ghosts = ghosts
        self._wanted: set[str] = set()
        self._looking: asyncio.Task[None] | None = None
        self._named: set[str] = set()
        self._seen_epochs: dict[str, str] = {}
        self._silent: deque[tuple[float, Held]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def hear(self, payload: bytes) -> None:
        """Push."""
        try:
            message = parse_message(payload)
        except InvalidInput as error:
            log.warning(MESSAGE_REFUSED, error=str(error))
            return
        if isinstance(message, CancelMessage):
            self._named.add(message.cancel_id)
            self.look([message.execution_id])

    def look(self, execution_ids: Iterable[str]) -> None:
        """Reads the intents of these soon; what comes in the meantime joins the same read."""
        self._wanted.update(execution_ids)
        if self._wanted and self._looking is None:
            self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, set()
                named, self._named = self._named, set()
                await self._read(self._by_run(wanted), list(named)[:NAMED_READ])
                await signals.reached("worker.looked")
        except (BrokerUnavailable, StoreRefused) as error:
            self.forget()  # so that the next beat reads again
            log.warning(INTENTS_READ_FAILED, error=str(error))
        finally:
            self._looking = None

    async def poll(self) -> None:
        """Reads the intents of every run whose epoch is not the one read *before* the last read of them.

        So a cancel that falls between the two reads is found by the next poll. A claim that was superseded
        raises the epoch, too. Raises BrokerUnavailable.
        """
        seen = self._seen_epochs  # `forget` puts another in its place: what is read across it does not count
        by_run = self._by_run(self._held)
        epochs = await self._claims.epochs(list(by_run))
        for run_id, epoch in epochs.items():
            if seen.get(run_id, "0") != epoch:
                await self._ghosts.look(run_id, by_run[run_id])
                is_starting = self._is_starting(by_run[run_id])
                await self._read({run_id: by_run[run_id]})
                if not is_starting:
                    seen[run_id] = epoch
        for run_id in seen.keys() - by_run.keys():
            del seen[run_id]

    def _is_starting(self, execution_ids: Iterable[str]) -> bool:
        """Whether the answer of a start may be under way: what it claimed can be superseded already, and its number,
        which alone tells, is not known here. So this epoch does not count as seen."""
        return any((held := self._held.get(one)) is not None and held.start == 0 for one in execution_ids)

    def forget(self) -> None:
        """After a confirmation nothing that was seen before counts."""
        self._seen_epochs = {}

    def _by_run(self, execution_ids: Iterable[str]) -> dict[str, list[str]]:
        by_run: defaultdict[str, list[str]] = defaultdict(list)
        for execution_id in execution_ids:
            if held := self._held.get(execution_id):
                by_run[held.run_id].append(execution_id)
        return by_run

    async def _read(self, by_run: Mapping[str, list[str]], named: Sequence[str] = ()) -> None:
        """The operations that messages named are read in the same round trip: their intents mostly say the same."""
        for run_id, ids in by_run.items():
            learning = self._causes.learn(run_id, named)
            try:
                found = await self._claims.intents(run_id, ids)
            finally:
                await learning
            causes = await self._causes.of(run_id, {intent.cancel_id for intent in found.values()})
            for execution_id, intent in found.items():
                if held := self._held.get(execution_id):
                    self._apply(held, intent, causes[intent.cancel_id])
                    if signals.watched():
                        await signals.reached("worker.applied", execution_id)

    def begin(self, held: Held, start: int) -> None:
        """The claim is ours: what was heard before it is applied now."""
        held.start = start
        if held.early is not None:
            (intent, cause), held.early = held.early, None
            self._apply(held, intent, cause)

    def _apply(self, held: Held, intent: IntentRecord, cause: CancelCause) -> None:
        """Hands a cancel to the body, once; a repeat is acked again and cancels nothing twice (trap T10)."""
        if held.start == 0:
            held.early = intent, cause
            return
        if held.ended or intent.start not in (0, held.start):
            return
        if not held.take(intent):
            if not held.received_due:
                self._acks.say(held, *held.said)
            return
        held.fire(cause, intent.force)
        if not held.received_due:
            self._say_later(held)

    def _say_later(self, held: Held) -> None:
        """One timer for all: thousands are handed over at once, and nearly all of them have ended by then."""
        held.received_due = True
        loop = asyncio.get_running_loop()
        self._drop_what_has_left()
        self._silent.append((loop.time() + RECEIVED_AFTER_S + CROWD_S * len(self._silent), held))
        if self._timer is None:
            self._timer = loop.call_at(self._silent[0][0], self._say_received)

    def _say_received(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._drop_what_has_left()
        while self._silent and self._silent[0][0] <= now:
            _, held = self._silent.popleft()
            if held.received_due and not held.left:
                self._acks.say(held, *held.said)
            held.received_due = False
        self._timer = loop.call_at(self._silent[0][0], self._say_received) if self._silent else None

    def _drop_what_has_left(self) -> None:
        while self._silent and self._silent[0][1].left:
            self._silent.popleft()[1].received_due = False
