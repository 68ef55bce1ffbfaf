"""What a worker process of the demo runs: `broker.Worker`, and a body for each directory that it is given.

It talks with the control plane in JSON lines over its stdin and stdout. When its stdin ends the parent is
gone, however it died, and the process leaves at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from broker.cli.demo import straggler
from broker.cli.demo.body import Directory, Tally
from broker.cli.demo.directory import Root
from broker.errors import BrokerError, ExecutionCancelled
from broker.worker.worker import Worker

PROGRESS_EVERY_S = 0.1
LINE_LIMIT = 1 << 24
AGENT_NODE = "demo"


def main(hello: dict[str, Any]) -> None:
    """Runs until the parent says `end`. `hello` has redis_url, run_id, path, skip."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints, prints to stderr: stdout is the wire

    def say(event: str, **fields: Any) -> None:
        try:
            os.write(out, json.dumps({"event": event, **fields}).encode() + b"\n")
        except BrokenPipeError:
            os._exit(1)

    try:
        asyncio.run(_work(hello, say))
    except BrokerError as error:
        say("failed", text=str(error), exit_code=error.exit_code)
        sys.exit(error.exit_code)


async def _work(hello: dict[str, Any], say: Any) -> None:
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    reading = asyncio.create_task(_read(orders))
    async with Worker(hello["redis_url"], agent_node_id=AGENT_NODE) as worker:
        job = Job(worker, hello, say)
        say("ready", pid=os.getpid(), worker_id=worker.worker_id)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, job.leave)
        telling = asyncio.create_task(job.tell_progress())
        while (order := await orders.get())["order"] != "end":
            job.obey(order)
        telling.cancel()
        await job.end()
    reading.cancel()


async def _read(orders: asyncio.Queue[dict[str, Any]]) -> None:
    """Never ends but with the process: no order can come after the parent is gone."""
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        orders.put_nowait(json.loads(line))
    os._exit(1)


class Job:
    """The bodies of one process."""

    def __init__(self, worker: Worker, hello: dict[str, Any], say: Any) -> None:
        self._worker = worker
        self._run_id: str = hello["run_id"]
        self._root = Root(hello["path"], frozenset(hello["skip"]))
        self._say = say
        self._tally = Tally()
        self._bodies: dict[str, Directory] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._commands: set[asyncio.Task[None]] = set()

    def obey(self, order: dict[str, Any]) -> None:
        """`run` a directory · `command` beside them · `child` of it has ended · `swallow` its cancel."""
        body = self._bodies.get(order.get("id", ""))
        match order["order"]:
            case "run":
                _keep(self._execute(order), self._tasks)
            case "command":
                _keep(self._run_command(order["id"], order["parent"]), self._commands)
            case "child" if body is not None:
                body.child_ended(order["path"], order["digest"])
            case "swallow":
                if body is not None:
                    body.swallows = True
                self._say("marked", id=order["id"], there=body is not None)

    async def _execute(self, order: dict[str, Any]) -> None:
        """One execution: this block is all that the broker needs of a job."""
        execution_id: str = order["id"]
        started, how, digest, detail = False, "done", None, ""
        try:
            async with self._worker.execution(
                self._run_id, execution_id, parent_execution_id=order["parent"], reasoner_id="sha256"
            ):
                started = True
                self._say("started", id=execution_id)
                body = Directory(execution_id, self._root, order["path"], say=self._say, tally=self._tally)
                self._bodies[execution_id] = body
                digest = await body.run()
        except ExecutionCancelled:
            how = "stopped" if started else "refused"
        except (BrokerError, OSError) as error:
            how, detail = "failed", str(error)
        finally:
            self._bodies.pop(execution_id, None)
        self._tell()
        self._say("ended", id=execution_id, how=how, digest=digest, detail=detail)

    async def _run_command(self, execution_id: str, parent_id: str) -> None:
        """A command as an execution: `run_process` ends what is below it too, by force where nothing else helps."""
        ready = asyncio.Event()
        ids = {"run_id": self._run_id, "id": execution_id, "parent": parent_id}
        how, detail = "failed", ""

        def start() -> None:
            ready.set()
            self._say("started", id=execution_id)

        try:
            detail = f"exit code {await straggler.run(self._worker, self._root, ids, start)}"
        except ExecutionCancelled:
            how = "stopped" if ready.is_set() else "refused"
        except (BrokerError, OSError) as error:
            detail = str(error)
        self._say("ended", id=execution_id, how=how, digest=None, detail=detail)

    async def tell_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            self._tell()

    def _tell(self) -> None:
        self._say("progress", **self._tally.take())

    async def end(self) -> None:
        """Ends what still runs, as any process that is told to leave."""
        await asyncio.gather(*map(straggler.kill, self._commands))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def leave(self) -> None:
        """SIGTERM: no body is waited for, but a command must not outlive this process."""
        self._leaving = asyncio.ensure_future(self._leave())

    async def _leave(self) -> None:
        await asyncio.gather(*map(straggler.kill, self._commands))
        os._exit(128 + signal.SIGTERM)


def _keep(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
