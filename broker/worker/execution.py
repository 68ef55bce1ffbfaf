"""The block around a body: subscribe → confirm → start → body → finish.

It behaves like `asyncio.timeout()`: what it cancels it takes back (`Task.uncancel`), and a
`CancelledError` that is somebody else's passes through. `execution()` never runs a body unsubscribed, and
raises `ExecutionCancelled` before the body's first line where a cancel stands against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from broker.errors import (
    AlreadyClaimed,
    AlreadyTerminal,
    BrokerUnavailable,
    CancelCause,
    ExecutionCancelled,
    Fenced,
    ParentConflict,
    TreeTooDeep,
)
from broker.observe.log import get_logger
from broker.protocol.states import Disposition
from broker.store.claims import StartAnswer
from broker.worker.held import Held
from broker.worker.intents import FENCED
from broker.worker.listener import Listener

log = get_logger("broker.worker")


class _State(enum.Enum):
    NEW = "new"
    ENTERING = "entering"
    INSIDE = "inside"
    LEFT = "left"


class HeldExecution:
    """One execution held by this worker: `async with worker.execution(...) as execution`.

    Entering raises ExecutionCancelled (a cancel stands against it), AlreadyTerminal, AlreadyClaimed, Fenced,
    ParentConflict, ExecutionInOtherRun, TreeTooDeep, or BrokerUnavailable. Leaving raises ExecutionCancelled
    where the body ended because of the cancel; Fenced where a newer process or claim has replaced this one.
    """

    def __init__(
        self, listener: Listener, run_id: str, execution_id: str, parent_execution_id: str, reasoner_id: str
    ) -> None:
        self._listener = listener
        self._held = Held(run_id, execution_id, parent_execution_id, reasoner_id, self._fire)
        self._state = _State.NEW
        self._cause: CancelCause | None = None
        self._delivered = False
        self._callbacks: list[Callable[[CancelCause], None]] = []

    @property
    def execution_id(self) -> str:
        return self._held.execution_id

    @property
    def cause(self) -> CancelCause | None:
        """Why the work was cancelled; None as long as it was not."""
        return self._cause

    @property
    def cancel_requested(self) -> bool:
        """A plain flag, set before `Task.cancel()`: also a body that never awaits can look at it."""
        return self._cause is not None

    def raise_if_cancelled(self) -> None:
        """Raises ExecutionCancelled once the cancel was heard."""
        if self._cause is not None:
            raise _ending(self.execution_id, self._cause)

    def on_cancel(self, callback: Callable[[CancelCause], None]) -> None:
        """Calls `callback(cause)` on the body's loop when the cancel is heard; at once if it was already."""
        if self._cause is not None:
            self._loop.call_soon(callback, self._cause)
        else:
            self._callbacks.append(callback)

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None or self._state is not _State.NEW:
            raise RuntimeError("an execution is entered once, inside a task")
        self._loop, self._task, self._cancelling_before = asyncio.get_running_loop(), task, task.cancelling()
        self._state = _State.ENTERING
        try:
            answer = await self._hold()
        except BaseException:
            self._state = _State.LEFT
            raise
        if answer.code != "claimed":
            await self._refused(answer)
        if self._cause is not None:
            self._state = _State.LEFT
            await self._finish("cancelled", Disposition.STOPPED, "cancelled before its first line")
            raise _ending(self.execution_id, self._cause)
        self._state = _State.INSIDE
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # First of all, so that a cancel that comes from now on finds nobody to deliver to (trap T49).
        self._state = _State.LEFT
        ours = False
        if self._delivered:
            ours = self._task.uncancel() <= self._cancelling_before and isinstance(error, asyncio.CancelledError)
        status, disposition = self._outcome(error)
        await self._finish(status, disposition, _detail(error))
        if ours and self._cause is not None:
            raise _ending(self.execution_id, self._cause) from error

    def _outcome(self, error: BaseException | None) -> tuple[str, Disposition]:
        """`stopped` where the work ended because of the cancel, else it ended by itself."""
        if error is None:
            return "succeeded", Disposition.ENDED_ITSELF
        if self._is_ours(error):  # it looked, and went: `Task.cancel()` need not have come by
            return "cancelled", Disposition.STOPPED
        because = self._delivered and any(isinstance(one, asyncio.CancelledError) for one in _history(error))
        status = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
        return status, Disposition.STOPPED if because else Disposition.ENDED_ITSELF

    def _is_ours(self, error: BaseException) -> bool:
        """What `raise_if_cancelled` raised, not what came out of a block within this one."""
        return isinstance(error, ExecutionCancelled) and error.execution_id == self.execution_id

    # --- the cancel -------------------------------------------------------------------------------

    def _fire(self, cause: CancelCause) -> None:
        """On the listener's thread: sets the flag, and has the body's own loop deliver."""
        if self._cause is None:
            self._cause = cause
        try:
            self._listener.mailbox_of(self._loop).post(self._deliver)
        except RuntimeError:
            log.warning("cancel.undeliverable", execution_id=self.execution_id, why="the body's event loop is closed")

    def _deliver(self) -> None:
        """On the body's loop, while the body waits: `Task.cancel()` never interrupts a running step."""
        if self._state is not _State.INSIDE or self._delivered or self._cause is None:
            return
        self._delivered = True
        for callback in self._callbacks:
            self._loop.call_soon(callback, self._cause)
        self._task.cancel()

    # --- the listener -----------------------------------------------------------------------------

    async def _hold(self) -> StartAnswer:
        holding = self._listener.ask(self._listener.hold(self._held))
        try:
            return await holding
        except asyncio.CancelledError:
            # Somebody else's cancel, in the middle of a claim: the listener gives back what it gets.
            with contextlib.suppress(BrokerUnavailable):
                self._listener.ask(self._listener.abandon(self._held))
            raise

    async def _refused(self, answer: StartAnswer) -> None:
        self._state = _State.LEFT
        execution_id, run_id = self.execution_id, self._held.run_id
        if answer.code == "cancelled":
            if answer.start:  # the answer of an earlier start was lost: what it claimed never ran
                await self._finish("cancelled", Disposition.STOPPED, "cancelled before its first line")
            cause = await self._listener.ask(self._listener.cause(run_id, answer.word))
            raise ExecutionCancelled(execution_id, cause)
        if answer.code == "terminal":
            raise AlreadyTerminal(execution_id, answer.word)
        if answer.code == "already_claimed":
            raise AlreadyClaimed(execution_id, answer.word)
        if answer.code == "fenced":
            raise Fenced(f"execution {execution_id} is held by incarnation {answer.word} of this worker id")
        if answer.code == "parent_conflict":
            raise ParentConflict(
                f"execution {execution_id} is known under another parent than {self._held.parent_execution_id}"
            )
        raise TreeTooDeep(f"execution {execution_id} has more than 1,000 ancestors, its gates cannot be checked")

    async def _finish(self, status: str, disposition: Disposition, detail: str) -> None:
        """Waits until the end is recorded, but not longer than the time-out: then the listener goes on alone."""
        try:
            finishing = self._listener.ask(self._listener.finish(self._held, status, disposition, detail))
            async with asyncio.timeout(self._listener.settings.timeout_s):
                code = await finishing
        except (TimeoutError, BrokerUnavailable):
            log.warning("execution.finish.delayed", execution_id=self.execution_id, status=status)
        else:
            if code == "late":
                log.warning("execution.finish.late", execution_id=self.execution_id, start=self._held.start)


def _ending(execution_id: str, cause: CancelCause) -> ExecutionCancelled | Fenced:
    if cause.source == FENCED:
        return Fenced(f"execution {execution_id} was stopped: {cause.reason}")
    return ExecutionCancelled(execution_id, cause)


def _history(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and what it gathers: a cleanup that raises does so because of a cancel."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        at = ahead.pop()
        if at is None or id(at) in seen:
            continue
        seen.add(id(at))
        yield at
        ahead += [at.__cause__, at.__context__]
        if isinstance(at, BaseExceptionGroup):
            ahead += at.exceptions


def _detail(error: BaseException | None) -> str:
    if error is None or isinstance(error, asyncio.CancelledError):
        return ""
    return f"{type(error).__name__}: {error}"[:200]
