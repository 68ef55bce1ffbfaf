"""Bodies that are no coroutine: a function in a thread, a command as a tree of processes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from broker.protocol.states import Disposition
from broker.worker.execution import HeldExecution
from broker.worker.outcome import Outcome
from broker.worker.process import ProcessEnd, ProcessTree

T = TypeVar("T")


async def in_thread(execution: HeldExecution, function: Callable[[], T]) -> T:
    """Runs `function` inside the execution's block in a thread of its own.

    Not in a pool: a body may take hours, and a pool that is full would hold back the next one unsubscribed.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def body() -> None:
        try:
            with execution:
                result = function()
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, whatever it is
            _tell(loop, partial(_fail, answer, error))
        else:
            _tell(loop, partial(_succeed, answer, result))

    context = contextvars.copy_context()
    name = f"broker-body-{execution.execution_id}"
    threading.Thread(target=context.run, args=(body,), name=name, daemon=True).start()
    return await answer


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """The caller may have gone, and its loop with it; the execution's end is recorded all the same."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def _fail(answer: asyncio.Future[T], error: BaseException) -> None:
    if isinstance(error, StopIteration):  # a future refuses it; out of a coroutine it comes like this, too
        stop, error = error, RuntimeError("the function raised StopIteration")
        error.__cause__ = stop
    if not answer.done():
        answer.set_exception(error)


def _succeed(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


async def wait_for_process(execution: HeldExecution, tree: ProcessTree, grace: float) -> int:
    """Waits until everything below the command is gone; a cancel ends it, a forced one kills it.

    So does the caller's second. A cancel that names a grace of its own overrides the worker's. The caller's and
    the broker's together are one: both are told when a tree ends.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    cancelled: asyncio.CancelledError | None = None
    end: ProcessEnd | None = None
    async with tree:
        while end is None:
            try:
                end = await tree.wait()
            except asyncio.CancelledError as error:
                by_caller = task.cancelling() - before - execution.cancel_requested if task is not None else 0
                if execution.forced or by_caller > 1:
                    tree.kill()
                else:
                    cause = execution.cause
                    tree.terminate(grace if cause is None or cause.grace is None else cause.grace)
                cancelled = error
    if cancelled is not None:
        execution.ended_with(_cancelled_outcome(end))
        raise cancelled
    if end.returncode != 0:
        execution.ended_with(Outcome("failed", Disposition.ENDED_ITSELF, f"exit code {end.returncode}"))
    return end.returncode


_PROOF = {
    "tree": "",
    "group": "; only its process group is known to be gone",
    "none": "; its supervisor was killed: what could be found was ended",
}


def _cancelled_outcome(end: ProcessEnd) -> Outcome:
    """The detail says where less than the whole tree is proved to be gone."""
    how = f"{end.killed} ended by SIGKILL" if end.forced else f"exit code {end.returncode}"
    disposition = Disposition.KILLED if end.forced else Disposition.STOPPED
    return Outcome("cancelled", disposition, how + _PROOF[end.proof])
