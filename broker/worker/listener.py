"""The part of a worker that cannot be starved: a thread and an event loop of its own.

Everything that a worker says to Redis and hears from it goes through here, so a body that blocks its own
loop is heard to be stopping, not dead (trap T28). Holding is here; hearing is in intents.py, saying in acks.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from broker.errors import AlreadyClaimed, BrokerUnavailable, CancelCause, Fenced, StoreRefused
from broker.observe import signals
from broker.observe.events import LISTENER_FAILED, WORKER_FENCED, WORKER_LEAVE_FAILED
from broker.observe.log import get_logger
from broker.protocol.states import Disposition
from broker.store.backend import Backend
from broker.store.claims import Claims, Holder, Registration, StartAnswer
from broker.store.commands import Commands
from broker.store.keys import Lifetimes
from broker.store.subscriptions import Subscriptions
from broker.worker.acks import Acks
from broker.worker.causes import Causes
from broker.worker.ends import Ends
from broker.worker.ghosts import Ghosts
from broker.worker.heartbeat import Heartbeat
from broker.worker.held import Held
from broker.worker.intents import Intents
from broker.worker.links import Links
from broker.worker.mailbox import Mailbox
from broker.worker.outcome import NEVER_RAN, Outcome
from broker.worker.restore import Restorer
from broker.worker.starting import claim, index

log = get_logger("broker.worker")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is made of. Times in seconds; the switches exist to prove each path alone."""

    url: str
    worker_id: str
    agent_node_id: str = ""
    namespace: str = "cb"
    timeout_s: float = 5.0
    heartbeat_s: float = 5.0
    heartbeat_ttl_s: float = 15.0
    canary_s: float = 5.0
    push: bool = True
    poll: bool = True
    reconcile: bool = True


class Listener:
    """Runs `Claims` and `Subscriptions` in a thread of its own; the public methods may be called from any."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.held: dict[str, Held] = {}
        self.fenced = False
        self._channels: dict[str, Held] = {}
        self._thread: threading.Thread | None = None
        self._mailbox: Mailbox | None = None
        self._mailboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakKeyDictionary()
        self._ready: Future[None] = Future()
        self._asked: set[asyncio.Task[Any]] = set()
        self._stop_asked = False
        self._gone = False
        self._hear = self._on_message  # bound once, not for each subscription

    # --- called from any thread -------------------------------------------------------------------

    def start(self) -> Future[None]:
        """Starts the thread; the future is done when the worker is connected and known to the broker."""
        if self._thread is not None:
            raise RuntimeError("a worker is entered once; make a new one")
        self._thread = threading.Thread(target=self._run, name="broker-listener", daemon=True)
        self._thread.start()
        return self._ready

    def mailbox_of(self, loop: asyncio.AbstractEventLoop) -> Mailbox:
        """The way into a body's loop, shared by all bodies of that loop."""
        mailbox = self._mailboxes.get(loop)
        return mailbox or self._mailboxes.setdefault(loop, Mailbox(loop))  # two threads may both find none

    def ask(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Runs a coroutine on the listener's loop; the future belongs to the caller's.

        Cancelling the future leaves the coroutine running. Raises BrokerUnavailable where the listener is
        not running (any more).
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        caller = self.mailbox_of(loop)
        self._send(coroutine, lambda done: caller.post(partial(_pass_on, done, answer)))
        return answer

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """The same for a thread without a loop: waits for the answer. Raises TimeoutError, and goes on alone."""
        return self.post(coroutine).result(timeout_s)

    def post(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """The same for a thread that does not wait."""
        answer: Future[T] = Future()
        self._send(coroutine, lambda done: _pass_on(done, answer))
        return answer

    def post_call(self, call: Callable[[], object]) -> None:
        """Runs a plain call on the listener's loop. Raises RuntimeError where it is closed."""
        if self._mailbox is not None:
            self._mailbox.post(call)

    def say(self, held: Held, disposition: Disposition, detail: str) -> None:
        """A body says how far it is: an ack instead of the `received` that would have come by itself."""
        with contextlib.suppress(RuntimeError):  # the worker has ended: there is nobody left to tell
            self.post_call(partial(self._say, held, disposition, detail))

    def _say(self, held: Held, disposition: Disposition, detail: str) -> None:
        held.received_due = False
        held.said = disposition, detail
        if not held.ended:
            self._acks.say(held, *held.said)

    def end(self, held: Held, outcome: Outcome, home: Mailbox) -> asyncio.Future[str]:
        """Records the end, for ever trying; `home` is the mailbox of the loop that this is called on.

        The future has the code of it, a TimeoutError where Redis takes its time, or BrokerUnavailable where it was
        not recorded. Raises BrokerUnavailable where the listener is not running.
        """
        mailbox = self._running_mailbox()
        answer: asyncio.Future[str] = home.loop.create_future()
        home.wait_at_most(answer, self.settings.timeout_s)
        mailbox.post(partial(self._ends.say, held, outcome, answer, home))
        return answer

    def _running_mailbox(self) -> Mailbox:
        if self._mailbox is None or self._gone:
            raise BrokerUnavailable("the worker is not running; use it inside its `with` block")
        return self._mailbox

    def _send(self, coroutine: Coroutine[Any, Any, T], pass_on: Callable[[asyncio.Task[T]], object]) -> None:
        try:
            mailbox = self._running_mailbox()
        except BrokerUnavailable:
            coroutine.close()
            raise
        mailbox.post(partial(self._start_task, coroutine, pass_on))

    def _start_task(self, coroutine: Coroutine[Any, Any, T], pass_on: Callable[[asyncio.Task[T]], object]) -> None:
        asyncio.get_running_loop().create_task(self._attend(coroutine)).add_done_callback(pass_on)

    async def _attend(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Nothing of ours cancels it but the end of the loop; the body must not take that for its own cancel."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        self._asked.add(task)
        try:
            return await coroutine
        except asyncio.CancelledError:
            raise BrokerUnavailable("the worker has ended") from None
        finally:
            self._asked.discard(task)

    @property
    def degraded(self) -> str | None:
        """Why cancels may have to wait for the poll at present, None where every subscription is confirmed."""
        return self._subscriptions.degraded if self._ready.done() else "connecting"

    def stop(self) -> None:
        """Asks the thread to end: it says what waits to be said, and goodbye."""
        self._stop_asked = True
        if self._mailbox is not None and not self._gone:
            self._mailbox.post(self._stopping.set)

    def join(self, timeout_s: float | None = None) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            else:
                log.exception(LISTENER_FAILED, worker_id=self.settings.worker_id)
                raise

    async def _main(self) -> None:
        settings = self.settings
        self._stopping = asyncio.Event()
        self._mailbox = Mailbox(asyncio.get_running_loop())
        if self._stop_asked:
            self._stopping.set()
        backend = Backend.connect(
            settings.url, namespace=settings.namespace, lifetimes=Lifetimes(), timeout_s=settings.timeout_s,
            client_name="broker-worker",
        )  # fmt: skip
        self._keys, self._claims = backend.keys, Claims(backend)
        self._heart = Heartbeat(self, self._claims)
        self._subscriptions = Subscriptions(
            settings.url,
            control_channel=backend.keys.control_channel(settings.worker_id),
            publish=backend.commands.publish,
            canary_every_s=settings.canary_s,
            connect_timeout_s=settings.timeout_s,
            on_confirmed=self._on_confirmed,
            on_control=lambda payload: self.intents.look(self._ghosts.asked(payload)),
        )
        try:
            self.holder = Holder(settings.worker_id, await self._claims.new_incarnation(settings.worker_id))
            self._acks = Acks(self._claims, self.holder)
            self._causes = Causes(self._claims)
            self._ghosts = Ghosts(self.held, self._claims, self._acks, self.holder)
            self.intents = Intents(self.held, self._claims, self._causes, self._acks, self._ghosts)
            self._restorer = Restorer(
                self._claims, self.holder, settings.agent_node_id, self.held,
                found=self._look_again, superseded=self._ghosts.replaced,
            )  # fmt: skip
            self.links = Links(self._claims, self.holder, lambda: _links_of(backend.commands, self._subscriptions))
            self._ends = Ends(self._claims, self.holder, self._restorer.note_end, self._release)
            backend.commands.on_new_server = self._restorer.server_changed
            await self._subscriptions.start()
            await self._heart.beat()
            self._ready.set_result(None)
            await self._live()
        finally:
            self._gone = True
            self._mailbox.empty()
            await self._subscriptions.close()
            await backend.close()

    async def _live(self) -> None:
        beating = asyncio.create_task(self._heart.keep(), name="broker-heartbeat")
        try:
            await self._stopping.wait()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await self._restorer.close()
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        await signals.reached("worker.leaving", self.settings.worker_id)
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                await asyncio.gather(*self._asked, return_exceptions=True)
                await self._ends.flush()
                await self._acks.flush()
                await self._claims.leave(self.holder)
        except (BrokerUnavailable, StoreRefused, TimeoutError) as error:
            log.warning(WORKER_LEAVE_FAILED, worker_id=self.settings.worker_id, error=repr(error))

    # --- holding ----------------------------------------------------------------------------------

    async def hold(self, held: Held) -> StartAnswer:
        """Subscribe, confirm, then start. Held from before SUBSCRIBE, so that nothing in between is missed."""
        if held.execution_id in self.held:
            raise AlreadyClaimed(held.execution_id, self.settings.worker_id)
        if self.fenced:
            raise Fenced(f"a newer process runs as {self.settings.worker_id}; this one starts nothing any more")
        held.holding = asyncio.current_task()
        held.channel = self._keys.cancel_channel(held.run_id, held.execution_id)
        self.held[held.execution_id] = self._channels[held.channel] = held
        try:
            await self._subscribe_and_index(held)
            await signals.reached("worker.confirmed", held.execution_id)
            await self._restorer.said(held.execution_id)
            losses = self._restorer.losses
            answer = await self._start(held)
        except BaseException:
            await self._release(held)
            raise
        await signals.reached("worker.started", held.execution_id)
        if answer.code == "claimed":
            held.holding = None  # nothing of it is under way any more
            self.intents.begin(held, answer.start)
            if self._restorer.losses != losses:  # the server that gave the claim may not be the one there is now
                self._restorer.say_again()
        elif answer.code != "cancelled" or answer.start == 0:
            await self._release(held)
        else:
            held.start = answer.start
        return answer

    async def _subscribe_and_index(self, held: Held) -> None:
        noted = self._claims.note(held.run_id, held.execution_id)
        try:
            await self._subscriptions.subscribe(held.channel, self._hear, self.settings.timeout_s)
        finally:
            known = await noted
        if known not in (None, held.run_id):
            await index(self._claims, held.run_id, held.execution_id)

    async def _start(self, held: Held) -> StartAnswer:
        what = Registration(
            held.execution_id, "pending", held.parent_execution_id, self.settings.agent_node_id, held.reasoner_id
        )
        return await claim(self._claims, held.run_id, what, self.holder)

    async def finish(self, held: Held, outcome: Outcome) -> str:
        """The same as `end`, on the listener's loop, and without a limit of time."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ends.say(held, outcome, answer)
        return await answer

    async def abandon(self, held: Held) -> None:
        """The body's side went away while `hold` was under way: what it may have claimed is given back."""
        if held.holding is not None:
            await asyncio.wait([held.holding])
        if held.start:
            await self.finish(held, NEVER_RAN)

    async def _release(self, held: Held) -> None:
        held.ended = True
        self.held.pop(held.execution_id, None)
        self._channels.pop(held.channel, None)
        await self._subscriptions.unsubscribe(held.channel)

    # --- hearing ----------------------------------------------------------------------------------

    def _on_message(self, payload: bytes) -> None:
        if self.settings.push:
            self.intents.hear(payload)

    def _on_confirmed(self, channels: frozenset[str]) -> None:
        """A first confirmation is followed by `start`, which reads the intent; a repeated one means a gap."""
        confirmed = [held for channel in channels if (held := self._channels.get(channel))]
        again = [held.execution_id for held in confirmed if held.confirmed]
        for held in confirmed:
            held.confirmed = True
        if again:
            self.intents.forget()
        if again and self.settings.reconcile:
            self.intents.look(again)

    def _look_again(self, held: Sequence[Held]) -> None:
        """Their claims stand again: is there a cancel of theirs that was not heard?"""
        self.intents.forget()
        self.intents.look([one.execution_id for one in held])

    async def cause(self, run_id: str, cancel_id: str) -> CancelCause:
        """Why: what the operation says. Raises BrokerUnavailable."""
        return (await self._causes.of(run_id, [cancel_id]))[cancel_id]

    def fence(self, newest: int) -> None:
        """A newer process has this worker id: whatever is held here is superseded, and is stopped."""
        if self.fenced:
            return
        self.fenced = True
        log.error(WORKER_FENCED, worker_id=self.settings.worker_id, incarnation=self.holder.incarnation, newest=newest)
        self._ghosts.fence(newest)


def _links_of(commands: Commands, subscriptions: Subscriptions) -> dict[str, int]:
    return {
        "worker_reconnects|commands": max(0, commands.connects - 1),
        "worker_reconnects|listener": subscriptions.reconnects,
        "worker_canary_failures": subscriptions.canary_failures,
    }


def _pass_on(done: asyncio.Task[T], answer: asyncio.Future[T] | Future[T]) -> None:
    """In the caller's loop, where it has one: the outcome of what the listener did."""
    error = BrokerUnavailable("the worker has ended") if done.cancelled() else done.exception()
    if answer.cancelled():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())
