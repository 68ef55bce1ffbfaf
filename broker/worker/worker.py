"""`Worker`: what a fleet's process holds. It keeps one listener, and hands out executions."""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from broker.errors import InvalidInput
from broker.protocol.names import check_id, lone_run
from broker.worker.execution import HeldExecution
from broker.worker.listener import Listener, WorkerSettings

T = TypeVar("T")
GOODBYE_S = 10.0


class Worker:
    """A process that runs executions and hears their cancels.

    ```python
    async with broker.Worker("redis://localhost:6379/0", agent_node_id="gpu-7") as worker:
        async with worker.execution("run-1", "leaf-1", parent_execution_id="root") as execution:
            await work()
    ```

    `worker_id` names this process and is unique by default (host, process, chance); `agent_node_id` names
    the group that it belongs to. `timeout` is how long Redis may take to be reached, in seconds. Entering
    raises BrokerUnavailable when it is not, and WorkerIdInUse when another live process has the id.
    """

    def __init__(
        self,
        url: str,
        *,
        agent_node_id: str | None = None,
        worker_id: str | None = None,
        namespace: str = "cb",
        timeout: float = 5.0,
    ) -> None:
        self._settings = WorkerSettings(
            url=url,
            worker_id=check_id(worker_id or default_worker_id(), "worker_id"),
            agent_node_id="" if agent_node_id is None else check_id(agent_node_id, "agent_node_id"),
            namespace=namespace,
            timeout_s=timeout,
        )
        self._listener = Listener(self._settings)

    @classmethod
    def with_settings(cls, settings: WorkerSettings) -> Worker:
        """A worker with every setting given: for tests that switch one path off."""
        worker = cls(settings.url, worker_id=settings.worker_id)
        worker._settings, worker._listener = settings, Listener(settings)
        return worker

    @property
    def worker_id(self) -> str:
        return self._settings.worker_id

    async def __aenter__(self) -> Self:
        try:
            await asyncio.shield(asyncio.wrap_future(self._listener.start()))
        except asyncio.CancelledError:
            self._listener.stop()  # the thread ends by itself when it has connected, or has given up
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Says what waits to be said, then goodbye. Executions still inside are not told anything."""
        self._listener.stop()
        await asyncio.to_thread(self._listener.join, GOODBYE_S)

    def execution(
        self,
        run_id: str | None,
        execution_id: str,
        *,
        parent_execution_id: str | None = None,
        reasoner_id: str | None = None,
    ) -> HeldExecution:
        """The block around one body; see `HeldExecution`. `run_id` None is an execution without a run.

        Raises InvalidId at once for an id that does not match the grammar.
        """
        execution_id = check_id(execution_id, "execution_id")
        return HeldExecution(
            self._listener,
            lone_run(execution_id) if run_id is None else check_id(run_id, "run_id"),
            execution_id,
            "" if parent_execution_id is None else check_id(parent_execution_id, "parent_execution_id"),
            reasoner_id or "",
        )

    async def run(
        self,
        function: Callable[..., Awaitable[T]],
        *args: Any,
        run_id: str | None,
        execution_id: str,
        parent_execution_id: str | None = None,
        **kwargs: Any,
    ) -> T:
        """Runs a coroutine function as an execution and answers its result.

        Raises ExecutionCancelled where it was cancelled, and what the function raises.
        """
        if not inspect.iscoroutinefunction(function):
            raise InvalidInput(f"run() takes a coroutine function (async def), got {function!r}")
        async with self.execution(run_id, execution_id, parent_execution_id=parent_execution_id):
            return await function(*args, **kwargs)


def default_worker_id() -> str:
    """Unique for each process: `<host>-<pid>-<chance>`."""
    host = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname()) or "host"
    return f"{host[:100]}-{os.getpid()}-{secrets.token_hex(3)}"
