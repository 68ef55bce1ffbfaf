"""The ends of executions: what ends together is said in one script call, and answered in one wake-up.

Thousands end at once when a run is cancelled; a task, a timer and a future for each of them cost several times
what is said.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from broker.errors import BrokerUnavailable, StoreRefused
from broker.observe import signals
from broker.store.claims import Claims, End, Holder
from broker.store.operations import CHUNK
from broker.worker.acks import insist
from broker.worker.held import Held
from broker.worker.mailbox import Mailbox
from broker.worker.outcome import Outcome

FOR_EVER = float("inf")


class Ending(NamedTuple):
    """One end under way: `answer` belongs to the loop of `home`, to the listener's where that is None."""

    held: Held
    outcome: Outcome
    answer: asyncio.Future[str]
    home: Mailbox | None

    @property
    def end(self) -> End:
        """What is said of it."""
        return End(self.held.execution_id, self.held.start, *self.outcome)


class Ends:
    """Says the ends of one worker process, for ever trying; lives on the listener's loop.

    `note` is called with each outcome that was written down, `release` for each that is through, written down or not.
    """

    def __init__(
        self,
        claims: Claims,
        holder: Holder,
        note: Callable[[Held, Outcome], None],
        release: Callable[[Held], Awaitable[None]],
    ) -> None:
        self._claims = claims
        self._holder = holder
        self._note = note
        self._release = release
        self._waiting: dict[str, list[Ending]] = {}
        self._saying: set[asyncio.Task[None]] = set()

    def say(self, held: Held, outcome: Outcome, answer: asyncio.Future[str], home: Mailbox | None = None) -> None:
        """Queues one end; `answer` gets the code of finish.lua. What comes while a call is under way joins the next."""
        held.ended = True
        held.received_due = False
        ending = Ending(held, outcome, answer, home)
        waiting = self._waiting.get(held.run_id)
        if waiting is None:
            waiting = self._waiting[held.run_id] = []
            self._keep(asyncio.get_running_loop().create_task(self._say_all(held.run_id, waiting)))
        waiting.append(ending)

    async def flush(self) -> None:
        """Returns when everything that was queued is written down."""
        while self._saying:
            await asyncio.gather(*self._saying, return_exceptions=True)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def _say_all(self, run_id: str, waiting: list[Ending]) -> None:
        try:
            while waiting:
                everyone, waiting[:] = waiting[:], []
                if len(everyone) <= CHUNK:
                    await self._say_chunk(run_id, everyone)
                    continue
                chunks = [everyone[at : at + CHUNK] for at in range(0, len(everyone), CHUNK)]
                await asyncio.gather(*(self._say_chunk(run_id, chunk) for chunk in chunks))
        finally:
            del self._waiting[run_id]
            await self._close(waiting, BrokerUnavailable("the worker has ended"))

    async def _say_chunk(self, run_id: str, chunk: Sequence[Ending]) -> None:
        try:
            for ending in chunk if signals.watched() else ():
                await signals.reached("worker.ending", ending.held.execution_id)
            ends = [ending.end for ending in chunk]
            codes = await self._claims.finish_chunk(run_id, self._holder, ends, patience_s=FOR_EVER)
        except StoreRefused:
            for ending in chunk:  # each for itself: one that is refused for ever must not hold up the others
                self._keep(asyncio.get_running_loop().create_task(self._insist(run_id, ending)))
        except asyncio.CancelledError:
            await self._close(chunk, BrokerUnavailable("the worker has ended"))
            raise
        except BaseException as error:  # noqa: BLE001 - it belongs to those who wait, whatever it is
            await self._close(chunk, error)
        else:
            await self._close(chunk, codes)

    async def _insist(self, run_id: str, ending: Ending) -> None:
        say = partial(self._claims.finish_chunk, run_id, self._holder, [ending.end], patience_s=FOR_EVER)
        try:
            await self._close([ending], await insist(say))
        except asyncio.CancelledError:
            await self._close([ending], BrokerUnavailable("the worker has ended"))
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            await self._close([ending], error)

    async def _close(self, chunk: Sequence[Ending], said: Sequence[str] | BaseException) -> None:
        """Nothing of these is held any more; each loop is woken once, with all the answers that belong to it."""
        answers: defaultdict[Mailbox | None, list[tuple[asyncio.Future[str], str | BaseException]]] = defaultdict(list)
        for at, ending in enumerate(chunk):
            word = said if isinstance(said, BaseException) else said[at]
            if isinstance(word, str):
                self._note(ending.held, ending.outcome)
            await self._release(ending.held)
            answers[ending.home].append((ending.answer, word))
        for home, known in answers.items():
            if home is None:
                _answer(known)
            else:
                home.post_if_open(partial(_answer, known))


def _answer(known: Sequence[tuple[asyncio.Future[str], str | BaseException]]) -> None:
    for answer, word in known:
        if answer.done():
            continue  # who waited has gone, or has waited long enough
        if isinstance(word, str):
            answer.set_result(word)
        else:
            answer.set_exception(word)
