"""The block around a body: subscribe → confirm → start → body → finish.

Around a coroutine it behaves like `asyncio.timeout()`: what it cancels it takes back (`Task.uncancel`), and a
`CancelledError` that is somebody else's passes through. A thread is asked, and has to look. A body never
runs unsubscribed, and `ExecutionCancelled` comes before its first line where a cancel stands against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from broker.errors import BrokerUnavailable, CancelCause, ExecutionCancelled, Fenced, InvalidInput
from broker.observe.events import (
    CANCEL_UNDELIVERABLE,
    EXECUTION_FINISH_DELAYED,
    EXECUTION_FINISH_LATE,
    ON_CANCEL_FAILED,
)
from broker.observe.log import get_logger
from broker.protocol.states import Disposition
from broker.worker.ghosts import FENCED
from broker.worker.held import Held
from broker.worker.listener import Listener
from broker.worker.mailbox import Mailbox
from broker.worker.outcome import NEVER_RAN, Outcome, outcome_of
from broker.worker.starting import refusal

log = get_logger("broker.worker")

FORCE_AGAIN_S = 0.5  # a forced cancel is level-triggered: a body that swallows it is asked again


_making_event = threading.Lock()
_current: ContextVar[HeldExecution | None] = ContextVar("broker_execution", default=None)


def current_execution() -> HeldExecution | None:
    """The execution whose block this code runs in: how a function that `worker.run` calls finds its own."""
    return _current.get()


class _State(enum.Enum):
    NEW = "new"
    ENTERING = "entering"
    INSIDE = "inside"
    LEFT = "left"


class HeldExecution:
    """One execution held by this worker: `async with worker.execution(...)`, or `with` in a thread.

    Entering raises ExecutionCancelled (a cancel stands against it), AlreadyTerminal, AlreadyClaimed, Fenced,
    ParentConflict, ExecutionInOtherRun, TreeTooDeep, or BrokerUnavailable. Leaving raises ExecutionCancelled
    where a coroutine ended because of the cancel; Fenced where a newer process or claim has replaced this one.
    """

    def __init__(
        self, listener: Listener, run_id: str, execution_id: str, parent_execution_id: str, reasoner_id: str
    ) -> None:
        self._listener = listener
        self._held = Held(run_id, execution_id, parent_execution_id, reasoner_id, self._fire)
        self._state = _State.NEW
        self._cause: CancelCause | None = None
        self._forced = False
        self._task: asyncio.Task[object] | None = None
        self._home: Mailbox | None = None
        self._delivered = 0
        self._again: asyncio.TimerHandle | None = None
        self._shields: list[float] = []
        self._refusal: str | None = None
        self._said: tuple[Disposition, object] | None = None
        self._wakes: threading.Event | None = None
        self._seen = False
        self._callbacks: list[Callable[[CancelCause], None]] = []
        self._outcome: Outcome | None = None
        self._token: Token[HeldExecution | None] | None = None

    # --- what a body may ask and say --------------------------------------------------------------

    @property
    def run_id(self) -> str:
        return self._held.run_id

    @property
    def execution_id(self) -> str:
        return self._held.execution_id

    @property
    def cause(self) -> CancelCause | None:
        """Why the work was cancelled; None as long as it was not, or inside a shield."""
        return self._cause if self.cancel_requested else None

    @property
    def cancel_requested(self) -> bool:
        """A plain flag, set before `Task.cancel()`: also a body that never awaits can look at it."""
        requested = self._cause is not None and (self._forced or not self._held_off())
        self._seen = self._seen or requested
        return requested

    @property
    def forced(self) -> bool:
        """Whether the forced step was asked for: nothing is waited for any more."""
        return self._forced

    def raise_if_cancelled(self) -> None:
        """Raises ExecutionCancelled once the cancel was heard."""
        if self.cancel_requested and self._cause is not None:
            raise _ending(self.execution_id, self._cause)

    def wait(self, timeout: float | None = None) -> bool:
        """For threads: waits at most `timeout` seconds; True when a cancel was requested."""
        self._requested.wait(timeout)
        return self.cancel_requested

    @property
    def _requested(self) -> threading.Event:
        """Made for the thread that waits: most bodies are coroutines, and it is a kilobyte."""
        with _making_event:
            wakes = self._wakes = self._wakes or threading.Event()
        if self._delivered:  # looked at after it was made; who delivers counts first, and looks for it then
            wakes.set()
        return wakes

    def on_cancel(self, callback: Callable[[CancelCause], None]) -> None:
        """Calls `callback(cause)` when the cancel is heard, at once if it was already.

        It runs on the body's loop, for a thread on a helper thread.
        """
        self._callbacks.append(callback)  # first, then the look: a thread's cancel may be delivered in between
        if self._delivered:
            self._post(self._call_back)

    @contextlib.contextmanager
    def shield(self, at_most: float) -> Iterator[None]:
        """Defers a cancel for at most `at_most` seconds; then it is delivered inside the block.

        Meanwhile the broker reports `deferred`, with the time at which it ends. A forced cancel breaks it.
        Raises InvalidInput for what is no positive number of seconds.
        """
        if not 0 < at_most < float("inf"):
            raise InvalidInput(f"shield at_most {at_most!r}: allowed is a positive number of seconds")
        until = time.monotonic() + at_most
        self._shields.append(until)
        try:
            yield
        finally:
            self._shields.remove(until)
            if self._cause is not None and not self._delivered:
                self._post(self._deliver)

    def refuse(self, reason: str) -> None:
        """Says that this execution will not stop, and why: it is reported as a straggler. Force overrides it."""
        self._refusal = reason
        if self._cause is not None:
            self._post(self._deliver)

    # --- the block ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("`async with` needs a task; use `with` in a thread")
        self._begin()
        self._loop, self._task, self._cancelling_before = asyncio.get_running_loop(), task, task.cancelling()
        self._home = self._listener.mailbox_of(self._loop)
        try:
            await self._listener.ask(self._hold())
        except BaseException as error:
            self._give_up(error)
            raise
        self._state = _State.INSIDE
        if self._cause is not None:
            self._state = _State.LEFT
            await self._finish(NEVER_RAN)
            raise _ending(self.execution_id, self._cause)
        self._token = _current.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ours = self._leave() and isinstance(error, asyncio.CancelledError)
        await self._finish(self._outcome_of(error))
        if ours and self._cause is not None:
            raise _ending(self.execution_id, self._cause) from error

    def __enter__(self) -> Self:
        """The same for a thread. Raises RuntimeError in a thread that runs an event loop."""
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("`with` would block the event loop of this thread; use `async with`")
        self._begin()
        try:
            self._listener.call(self._hold())
        except BaseException as error:
            self._give_up(error)
            raise
        self._state = _State.INSIDE  # before the look, because the listener delivers in a thread of its own
        if self._cause is not None:
            self._state = _State.LEFT
            self._finish_blocking(NEVER_RAN)
            raise _ending(self.execution_id, self._cause)
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        self._finish_blocking(self._outcome_of(error))

    def _begin(self) -> None:
        if self._state is not _State.NEW:
            raise RuntimeError("an execution is entered once; make a new one")
        self._state = _State.ENTERING

    def _give_up(self, error: BaseException) -> None:
        """Nothing is held; or somebody else's cancel came amid a claim, and the listener gives back what it gets."""
        self._state = _State.LEFT
        if not isinstance(error, Exception):
            with contextlib.suppress(BrokerUnavailable):
                self._listener.post(self._listener.abandon(self._held))

    def _leave(self) -> bool:
        """First of all, so that a cancel that comes from now on finds nobody to deliver to (trap T49).

        Takes back what was delivered; True where no cancel of somebody else is left.
        """
        self._state = _State.LEFT
        self._held.left = True
        if self._token is not None:
            with contextlib.suppress(ValueError):  # left in another context than entered, as a generator's may be
                _current.reset(self._token)
        if self._again is not None:
            self._again.cancel()
        if self._task is None or not self._delivered:
            return False
        for _ in range(self._delivered):
            self._task.uncancel()
        return self._task.cancelling() <= self._cancelling_before

    def ended_with(self, outcome: Outcome) -> None:
        """What is to be reported, where the block cannot know it: how a process ended."""
        self._outcome = outcome

    def _outcome_of(self, error: BaseException | None) -> Outcome:
        seen = self._seen and self._task is None
        return self._outcome or outcome_of(self.execution_id, error, delivered=self._delivered > 0, seen=seen)

    # --- the cancel -------------------------------------------------------------------------------

    def _fire(self, cause: CancelCause, force: bool) -> None:
        """On the listener's thread: sets the flag, and has the body's own loop deliver."""
        self._cause = self._cause or cause
        self._forced = self._forced or force
        self._post(self._deliver)

    def _post(self, call: Callable[[], object]) -> None:
        """Runs it where cancels are delivered: on the task's loop, for a thread on the listener's."""
        try:
            if self._home is not None:
                self._home.post(call)
            else:
                self._listener.post_call(call)
        except RuntimeError:
            log.warning(CANCEL_UNDELIVERABLE, execution_id=self.execution_id, why="the event loop is closed")

    def _deliver(self) -> None:
        """Never while a step of the body runs, so `Task.cancel()` meets it at an await."""
        if self._state is not _State.INSIDE or self._cause is None or self._says_why_not():
            return
        if self._said is not None and self._said[0] is not Disposition.RECEIVED:
            self._say(Disposition.RECEIVED, "")
        if not self._delivered or self._forced:
            self._delivered += 1
            if self._wakes is not None:
                self._wakes.set()
            self._call_back()
            if self._task is not None:
                self._task.cancel()
                self._ask_again()

    def _ask_again(self) -> None:
        if self._forced:
            if self._again is not None:
                self._again.cancel()
            self._again = self._loop.call_later(FORCE_AGAIN_S, self._deliver)

    def _held_off(self) -> bool:
        return self._shielded_for() > 0

    def _shielded_for(self) -> float:
        return max(self._shields, default=0.0) - time.monotonic()

    def _says_why_not(self) -> bool:
        """A refusal, or a shield: then the cancel comes when its time is over."""
        if self._forced:
            return False
        if self._refusal is not None:
            self._say(Disposition.REFUSED, self._refusal)
            return True
        if not self._shields:
            return False
        left_s = self._shielded_for()
        if left_s <= 0:
            return False
        self._say(Disposition.DEFERRED, f"shielded for at most {left_s:.1f} s more", max(self._shields, default=0.0))
        asyncio.get_running_loop().call_later(left_s, self._deliver)
        return True

    def _say(self, disposition: Disposition, detail: str, until: float = 0.0) -> None:
        """Once, and again where there is news: another reason, or a shield that lasts longer."""
        said = (disposition, until or detail)
        if self._said != said:
            self._said = said
            self._listener.say(self._held, disposition, detail)

    def _call_back(self) -> None:
        """Each callback once. A thread that has one has looked: it may end because of what that does."""
        while self._callbacks and self._cause is not None:
            loop, callback = asyncio.get_running_loop(), self._callbacks.pop(0)
            if self._task is not None:
                loop.call_soon(callback, self._cause)
            else:
                self._seen = True
                loop.run_in_executor(None, callback, self._cause).add_done_callback(_log_failure)

    # --- the listener -----------------------------------------------------------------------------

    async def _hold(self) -> None:
        """On the listener's loop: claims, or raises what stands in the way."""
        answer = await self._listener.hold(self._held)
        if answer.code == "claimed":
            return
        if answer.code == "cancelled":
            if answer.start:  # the answer of an earlier start was lost: what it claimed never ran
                await self._listener.finish(self._held, NEVER_RAN)
            cause = await self._listener.cause(self._held.run_id, answer.word)
            raise ExecutionCancelled(self.execution_id, cause)
        raise refusal(self.execution_id, self._held.parent_execution_id, answer)

    async def _finish(self, outcome: Outcome) -> None:
        """Waits until the end is recorded, but not longer than the time-out: then the listener goes on alone."""
        assert self._home is not None  # noqa: S101 - `__aenter__` has set it
        try:
            self._note(await self._listener.end(self._held, outcome, self._home))
        except (TimeoutError, BrokerUnavailable):
            log.warning(EXECUTION_FINISH_DELAYED, execution_id=self.execution_id, status=outcome.status)

    def _finish_blocking(self, outcome: Outcome) -> None:
        timeout_s = self._listener.settings.timeout_s
        try:
            self._note(self._listener.call(self._listener.finish(self._held, outcome), timeout_s))
        except (TimeoutError, BrokerUnavailable):
            log.warning(EXECUTION_FINISH_DELAYED, execution_id=self.execution_id, status=outcome.status)

    def _note(self, code: str) -> None:
        if code == "late":
            log.warning(EXECUTION_FINISH_LATE, execution_id=self.execution_id, start=self._held.start)


def _ending(execution_id: str, cause: CancelCause) -> ExecutionCancelled | Fenced:
    if cause.source == FENCED:
        return Fenced(f"execution {execution_id} was stopped: {cause.reason}")
    return ExecutionCancelled(execution_id, cause)


def _log_failure(called: asyncio.Future[None]) -> None:
    if not called.cancelled() and (error := called.exception()) is not None:
        log.error(ON_CANCEL_FAILED, error=repr(error))
