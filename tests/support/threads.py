"""A plain function that `worker.run` has put into a thread, and that a test holds in its hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import broker
from broker.worker.execution import HeldExecution
from tests.support.fleet import RUN
from tests.support.points import PATIENCE_S
from tests.support.wait import wait_until

Work = Callable[["ThreadBody"], object]


class ThreadBody:
    """One execution in a thread; `task` is what awaits it."""

    execution: HeldExecution

    def __init__(self, worker: broker.Worker, execution_id: str, work: Work) -> None:
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.steps: list[str] = []
        self.task = asyncio.create_task(worker.run(self._run, work, run_id=RUN, execution_id=execution_id))

    def _run(self, work: Work) -> object:
        execution = broker.current_execution()
        assert execution is not None
        self.execution = execution
        self.inside.set()
        return work(self)

    async def begun(self) -> ThreadBody:
        """Returns when it stands at its first line."""
        await wait_until(self.inside.is_set, "the thread to be inside", PATIENCE_S)
        return self

    async def end(self) -> BaseException | None:
        """What came out of `worker.run`, None where nothing did."""
        done, _ = await asyncio.wait({self.task}, timeout=PATIENCE_S)
        assert done, "the thread did not end"
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()


def obedient(body: ThreadBody) -> None:
    """Waits for its cancel, and goes."""
    assert body.execution.wait(PATIENCE_S)
    body.execution.raise_if_cancelled()


def deaf(body: ThreadBody) -> str:
    """Never looks."""
    assert body.go_on.wait(PATIENCE_S)
    return "its own result"
