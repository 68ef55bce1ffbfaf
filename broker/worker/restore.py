"""After Redis has lost data the worker says again what it holds, and what ended in the last 15 minutes (trap T8)."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from broker.errors import BrokerError
from broker.observe import signals
from broker.observe.events import WORKER_RESTORE_FAILED, WORKER_RESTORE_STARTED
from broker.observe.log import get_logger
from broker.store.claims import Claim, Claims, End, Holder
from broker.store.operations import CHUNK
from broker.worker.held import Held
from broker.worker.outcome import Outcome

log = get_logger("broker.worker")

KEPT_S = 15 * 60.0
KEPT_ENDS = 10_000  # a few MB: at 11 ends a second these are the 15 minutes
PAUSE_S = 1.0


class Ended(NamedTuple):
    """An end that Redis had taken, and when, by the loop's clock."""

    at: float
    run_id: str
    claim: Claim
    end: End


Kept = tuple[float, str, str, str, str, int, str, str, str]
"""The same, flat: the garbage collector takes no notice of a plain tuple of text and numbers, but of a record."""


class Restorer:
    """Lives on the listener's loop. Everything it says is idempotent: where nothing was lost, nothing changes."""

    def __init__(
        self,
        claims: Claims,
        holder: Holder,
        agent_node_id: str,
        held: Mapping[str, Held],
        *,
        found: Callable[[Sequence[Held]], None],
        superseded: Callable[[Held], None],
    ) -> None:
        self._claims = claims
        self._holder = holder
        self._agent_node_id = agent_node_id
        self._held = held
        self._found = found
        self._superseded = superseded
        self._ended: deque[Kept] = deque(maxlen=KEPT_ENDS)
        self._restoring: asyncio.Task[None] | None = None
        self._saying: dict[str, asyncio.Event] = {}
        self.losses = 0

    def note_end(self, held: Held, outcome: Outcome) -> None:
        """An end was written down: kept in case that Redis forgets it."""
        now = asyncio.get_running_loop().time()
        while self._ended and now - self._ended[0][0] > KEPT_S:
            self._ended.popleft()
        status, disposition, detail = outcome
        who = (held.run_id, held.execution_id, held.parent_execution_id, held.reasoner_id, held.start)
        self._ended.append((now, *who, status, disposition.value, detail))

    def server_changed(self) -> None:
        """Another server process answers; called before any command is sent there."""
        self.losses += 1
        self.say_again()

    def say_again(self) -> None:
        """Says everything again, from the beginning where it was at it."""
        if self._restoring is not None:
            self._restoring.cancel()
        self._restoring = asyncio.get_running_loop().create_task(self._insist(), name="broker-restore")

    async def said(self, execution_id: str) -> None:
        """Returns when no end of it is on its way: it is held by now, so no other one sets out.

        A server that has lost its data counts claims from 1 again: a start would be given the number of a claim that
        has ended, and the end of that, said again, would free it.
        """
        while (group := self._saying.get(execution_id)) is not None:
            await group.wait()

    async def close(self) -> None:
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)

    async def _insist(self) -> None:
        while True:
            try:
                await self._restore_all()
            except BrokerError as error:
                log.warning(WORKER_RESTORE_FAILED, worker_id=self._holder.worker_id, error=str(error))
                await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            else:
                return

    async def _restore_all(self) -> None:
        held = [one for one in self._held.values() if one.start and not one.ended]
        recent = self._recent()
        log.warning(WORKER_RESTORE_STARTED, worker_id=self._holder.worker_id, held=len(held), ended=len(recent))
        await self.restore(held)
        await self._say_ends(recent)
        await signals.reached("worker.restored", self._holder.worker_id)

    def _recent(self) -> list[Ended]:
        now = asyncio.get_running_loop().time()
        return [_ended(one) for one in self._ended if now - one[0] <= KEPT_S]

    async def restore(self, held: Sequence[Held]) -> None:
        """Claims these again; what was replaced meanwhile ends. Raises BrokerUnavailable and StoreRefused."""
        codes: dict[str, str] = {}
        for run_id, claims in _by_run((one.run_id, _claim(one)) for one in held).items():
            codes.update(await self._restore_run(run_id, claims))
        for one in held:
            if codes.get(one.execution_id) == "superseded" and not one.ended:
                self._superseded(one)
        self._found(held)

    async def _restore_run(self, run_id: str, claims: Sequence[Claim]) -> dict[str, str]:
        codes: dict[str, str] = {}
        for at in range(0, len(claims), CHUNK):
            chunk = claims[at : at + CHUNK]
            codes.update(await self._claims.restore(run_id, self._holder, self._agent_node_id, chunk))
        return codes

    async def _say_ends(self, ended: Sequence[Ended]) -> None:
        """Not of what is held again: whatever number its new claim has, that end is none of it."""
        for at in range(0, len(ended), CHUNK):
            group = [one for one in ended[at : at + CHUNK] if one.claim.execution_id not in self._held]
            said = asyncio.Event()
            self._saying.update((one.claim.execution_id, said) for one in group)
            try:
                await self._say_group(group)
            finally:
                said.set()
                self._saying = {one: event for one, event in self._saying.items() if event is not said}

    async def _say_group(self, group: Sequence[Ended]) -> None:
        """Each claim first, where the record of it is lost: an end is proved only by the holder of the claim."""
        by_run = _by_run((one.run_id, one.claim) for one in group)
        await _all(self._restore_run(run_id, claims) for run_id, claims in by_run.items())
        await _all(self._claims.finish(one.run_id, self._holder, one.end) for one in group)


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    """None is under way any more when this raises."""
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


def _ended(kept: Kept) -> Ended:
    at, run_id, execution_id, parent, reasoner, start, *outcome = kept
    return Ended(at, run_id, Claim(execution_id, parent, reasoner, start), End(execution_id, start, *outcome))


def _claim(held: Held) -> Claim:
    return Claim(held.execution_id, held.parent_execution_id, held.reasoner_id, held.start)


def _by_run(claims: Iterable[tuple[str, Claim]]) -> Mapping[str, list[Claim]]:
    by_run: defaultdict[str, list[Claim]] = defaultdict(list)
    for run_id, claim in claims:
        by_run[run_id].append(claim)
    return by_run
