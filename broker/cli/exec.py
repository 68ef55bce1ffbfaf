"""The command `broker exec`: any program as a cancellable execution, and what reaches this process meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from broker.cli.loading import unsearched
from broker.cli.settings import option, seconds
from broker.errors import BrokerError, ExecutionCancelled
from broker.protocol.names import check_id, public_run
from broker.worker.reaper.proc import descendants

BY_SIGNAL = 128
"""Exit codes of what a signal ended, as shells have them: 128 + its number."""
CANCELLED = BY_SIGNAL + signal.SIGTERM
NOT_FOUND = 127
NOT_STARTED = 126

_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_HEARD = (*_FROM_TERMINAL, signal.SIGTERM, signal.SIGHUP)


Command = Annotated[list[str], typer.Argument(metavar="CMD", help="The program and its arguments.")]
RunId = Annotated[
    str | None,
    typer.Option("--run-id", envvar="BROKER_RUN_ID", help="The run it belongs to; without one it stands alone."),
]
ExecutionId = Annotated[str | None, typer.Option("--execution-id", help="Its own id. Default: a fresh one.")]
Parent = Annotated[
    str | None,
    typer.Option("--parent", help="The execution above it. Default: $BROKER_EXECUTION_ID, if of the same run."),
]
Grace = Annotated[str, option("--grace", "From SIGTERM to SIGKILL.", "SECONDS")]
RedisUrl = Annotated[
    str, typer.Option("--redis-url", envvar="BROKER_REDIS_URL", help="The Redis where cancels are told.")
]
AgentNode = Annotated[
    str | None, typer.Option("--agent-node", envvar="BROKER_AGENT_NODE", help="The group this process belongs to.")
]


def exec_command(
    command: Command,
    run_id: RunId = None,
    execution_id: ExecutionId = None,
    parent: Parent = None,
    grace: Grace = "10",
    redis_url: RedisUrl = "redis://127.0.0.1:6379/0",
    agent_node: AgentNode = None,
) -> None:
    """Runs any program as an execution that can be cancelled, and leaves no process of it behind.

    \b
    Example: broker exec --run-id nightly --execution-id train -- ./train.sh --epochs 3
    Then:    broker execution cancel train

    Input, output and exit code are the program's; 128 + N where signal N ended it. In its environment stand
    BROKER_RUN_ID, BROKER_EXECUTION_ID and BROKER_REDIS_URL: a `broker exec` that it calls becomes its child.

    A cancel or SIGTERM ends everything the program has started. Ctrl-C is the program's to obey within the
    grace time, the second one ends it, the third kills it.

    Exit codes of our own: 143 cancelled, 130 Ctrl-C, 127 not found, 126 cannot be started, 6 Redis unreachable,
    5 the execution has ended already, 2 usage, 1 other error.
    """
    _keep_quiet()
    name = execution_id or f"exec-{secrets.token_hex(8)}"
    enclosing_run = os.environ.get("BROKER_RUN_ID")
    if parent is None and run_id is not None and run_id == enclosing_run:
        parent = os.environ.get("BROKER_EXECUTION_ID") or None
    if run_id is not None and public_run(run_id) is None:
        run_id = parent = None  # called in an execution that has no run: there is nothing to belong to
    try:
        grace_s = seconds(grace, "--grace") or 0.0
    except BrokerError as error:
        _say(str(error))
        raise typer.Exit(error.exit_code) from error
    job = _Job(command, run_id, name, parent, grace_s, redis_url, agent_node)
    raise typer.Exit(asyncio.run(_Attended(job).run()))


def _environment(redis_url: str) -> dict[str, str]:
    """What the command inherits: the worker id is this process's alone."""
    kept = {name: value for name, value in os.environ.items() if name != "BROKER_WORKER_ID"}
    return {**kept, "BROKER_REDIS_URL": redis_url}


@dataclass(frozen=True)
class _Job:
    """What was asked for."""

    command: list[str]
    run_id: str | None
    execution_id: str
    parent: str | None
    grace_s: float
    redis_url: str
    agent_node: str | None

    async def run(self) -> int:
        """The exit code to leave with."""
        with unsearched():  # it loads Redis's client, which takes longer than all the rest
            from broker.worker.worker import Worker

        try:
            for option, given in (
                ("run-id", self.run_id),
                ("execution-id", self.execution_id),
                ("parent", self.parent),
            ):
                if given is not None:
                    check_id(given, f"--{option}")
            async with Worker(self.redis_url, agent_node_id=self.agent_node) as worker:
                code = await worker.run_process(
                    self.command,
                    run_id=self.run_id,
                    execution_id=self.execution_id,
                    parent_execution_id=self.parent,
                    grace=self.grace_s,
                    env=_environment(self.redis_url),
                    foreground=True,
                )
        except BrokerError as error:
            _say(str(error))
            return CANCELLED if isinstance(error, ExecutionCancelled) else error.exit_code
        except FileNotFoundError as error:
            _say(f"{self.command[0]}: {_why(error)}")
            return NOT_FOUND
        except OSError as error:
            _say(f"{self.command[0]}: {_why(error)}")
            return NOT_STARTED
        return BY_SIGNAL - code if code < 0 else code


class _Attended:
    """A job, and the signals that reach this process while it runs.

    SIGTERM and SIGHUP end it. What the terminal sends reaches the program as well, which may tidy up: it is ended when
    the grace time is over, or by the next signal. Signals that are ignored (nohup) stay ignored, for the program too.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._first: signal.Signals | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._job.run())
        heard = [number for number in _HEARD if signal.getsignal(number) is not signal.SIG_IGN]
        for number in heard:  # not by the loop, which would give Ctrl-C back to Python when it closes
            signal.signal(number, partial(self._tell, loop))
        try:
            await asyncio.wait([self._task])
        finally:
            for number in heard:
                signal.signal(number, signal.SIG_IGN)  # nothing is left but to leave
        if self._first is None:
            return self._task.result()
        if self._task.cancelled():
            if self._first not in _FROM_TERMINAL:  # who pressed Ctrl-C knows it
                _say(f"execution {self._job.execution_id} was ended by {self._first.name}")
        elif self._task.result() == CANCELLED:
            return CANCELLED
        return BY_SIGNAL + self._first

    def _tell(self, loop: asyncio.AbstractEventLoop, number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(self._hear, signal.Signals(number))

    def _hear(self, number: signal.Signals) -> None:
        again, self._first = self._first is not None, self._first or number
        if number in _FROM_TERMINAL and not again and _command_hears():
            asyncio.get_running_loop().call_later(self._job.grace_s, self._task.cancel)
        else:
            self._task.cancel()


def _command_hears() -> bool:
    """Whether a command stands in our process group yet, where the terminal's signals reach it."""
    if sys.platform != "linux":
        return False
    ours = os.getpgrp()
    for each in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):  # it has obeyed already; another may stand there
            if os.getpgid(each.pid) == ours:
                return True
    return False


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # after SIGHUP there may be no terminal any more
        print(f"broker exec: {text}", file=sys.stderr, flush=True)


def _keep_quiet() -> None:
    """The broker's log lines would stand in the middle of the program's; what matters is said in one line."""
    logging.getLogger("broker").addHandler(logging.NullHandler())
