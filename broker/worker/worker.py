"""`Worker`: what a fleet's process holds. It keeps one listener, and hands out executions."""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from broker.errors import InvalidInput
from broker.protocol.names import check_id, check_worker_id, lone_run
from broker.worker.bodies import in_thread, wait_for_process
from broker.worker.execution import HeldExecution
from broker.worker.listener import Listener, WorkerSettings
from broker.worker.process import ProcessTree
from broker.worker.supervisor_link import Stream

T = TypeVar("T")
GOODBYE_S = 10.0
WORKER_ID_VARIABLE = "BROKER_WORKER_ID"


class Worker:
    """A process that runs executions and hears their cancels.

    ```python
    async with broker.Worker("redis://localhost:6379/0", agent_node_id="gpu-7") as worker:
        async with worker.execution("run-1", "leaf-1", parent_execution_id="root") as execution:
            await work()
    ```

    `worker_id` names this process; by default it is `BROKER_WORKER_ID`, else unique (host, process, chance). One that
    is stable across restarts proves by its new process that the old one is gone. `agent_node_id` names
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
            worker_id=check_worker_id(worker_id or os.environ.get(WORKER_ID_VARIABLE) or default_worker_id()),
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

    @property
    def degraded(self) -> str | None:
        """Why cancels may come late at present (the poll finds them), None where the listener is connected."""
        return self._listener.degraded

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

    def __enter__(self) -> Self:
        """The same worker for threads."""
        self._listener.start().result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.stop()
        self._listener.join(GOODBYE_S)

    def execution(
        self,
        run_id: str | None,
        execution_id: str,
        *,
        parent_execution_id: str | None = None,
        reasoner_id: str | None = None,
    ) -> HeldExecution:
        """The block around one body, `async with` or `with`; see `HeldExecution`. `run_id` None: it has no run.

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

    @overload
    async def run(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        run_id: str | None,
        execution_id: str,
        parent_execution_id: str | None = None,
        **kwargs: Any,
    ) -> T: ...
    @overload
    async def run(
        self,
        function: Callable[..., T],
        *args: Any,
        run_id: str | None,
        execution_id: str,
        parent_execution_id: str | None = None,
        **kwargs: Any,
    ) -> T: ...
    async def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        run_id: str | None,
        execution_id: str,
        parent_execution_id: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Runs a coroutine function, or a plain function in a thread of its own, and answers its result.

        A thread can only be asked: its function looks at `broker.current_execution()`, and what awaits here
        may be cancelled while the thread goes on and stays held. Raises ExecutionCancelled where it was
        cancelled, and what the function raises.
        """
        execution = self.execution(run_id, execution_id, parent_execution_id=parent_execution_id)
        if inspect.iscoroutinefunction(function):
            async with execution:
                return await function(*args, **kwargs)
        if not callable(function):
            raise InvalidInput(f"run() takes a coroutine function or a plain one, got {function!r}")
        return await in_thread(execution, partial(function, *args, **kwargs))

    async def run_process(
        self,
        argv: Sequence[str],
        *,
        run_id: str | None,
        execution_id: str,
        parent_execution_id: str | None = None,
        grace: float = 10.0,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        foreground: bool = False,
    ) -> int:
        """Runs a command as an execution and answers its exit code, negative for a signal.

        A cancel sends SIGTERM to everything below the command, and SIGKILL to what is left after `grace`
        seconds (or those that the cancel names); the end is reported when all of it is gone. The command finds
        its ids in the environment (`BROKER_RUN_ID`, `BROKER_EXECUTION_ID`). The streams are those of subprocess,
        without PIPE.
        Raises ExecutionCancelled, and what subprocess raises for a command that cannot be started.
        """
        execution = self.execution(run_id, execution_id, parent_execution_id=parent_execution_id)
        ids = {"BROKER_RUN_ID": execution.run_id, "BROKER_EXECUTION_ID": execution.execution_id}
        inherited = {
            name: value for name, value in os.environ.items() if name != WORKER_ID_VARIABLE
        }  # it is ours alone
        async with execution:
            tree = await ProcessTree.start(
                argv,
                env={**(inherited if env is None else env), **ids},
                cwd=cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                grace=grace,
                foreground=foreground,
            )
            return await wait_for_process(execution, tree, grace)


def default_worker_id() -> str:
    """Unique for each process: `<host>-<pid>-<chance>`."""
    host = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname()) or "host"
    return f"{host[:100]}-{os.getpid()}-{secrets.token_hex(3)}"
