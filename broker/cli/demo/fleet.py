"""The worker processes of the demo: started, talked to, and ended for certain.

Each is a session of its own, so that Ctrl-C reaches only the parent, which then ends them. Should the parent
be killed, their stdin ends, and they leave by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from broker.cli.demo.job import LINE_LIMIT
from broker.errors import BrokerError, BrokerUnavailable

READY_WITHIN_S = 30.0
LEAVES_WITHIN_S = 3.0
TERMINATES_WITHIN_S = 1.0
STDERR_KEPT = 2000
# The secret in the URL and the parent's import path travel in the first line, not in what `ps` shows.
_BOOT = (
    "import json, sys; hello = json.loads(sys.stdin.buffer.raw.readline());"
    "sys.path[:] = hello['sys_path']; from broker.cli.loading import unsearched\n"
    "with unsearched(): from broker.cli.demo.job import main\n"
    "main(hello)"
)


class FleetFailed(BrokerError):
    """A worker process did not come up; the text says what it said last."""


@dataclass(slots=True)
class Member:
    """One worker process. `said` is the end of its stderr."""

    number: int
    process: asyncio.subprocess.Process
    worker_id: str = ""
    alive: bool = True
    said: str = ""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BrokerError | None = None

    @property
    def name(self) -> str:
        return f"w{self.number}"

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker process says. `kind` `gone` is said by the fleet: the process has ended."""

    member: Member
    kind: str
    fields: dict[str, Any]


class Fleet:
    """`async with Fleet(3, hello) as fleet`: inside, all are ready; after it, none is left."""

    def __init__(self, size: int, hello: dict[str, Any]) -> None:
        self._size = size
        self._hello = {**hello, "sys_path": sys.path}
        self._tasks: list[asyncio.Task[None]] = []
        self.members: list[Member] = []
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        try:
            for number in range(1, self._size + 1):
                await self._start(number)
            async with asyncio.timeout(READY_WITHIN_S):
                await asyncio.gather(*(member.ready.wait() for member in self.members))
            for member in self.members:
                if member.failure is not None:
                    raise member.failure
        except TimeoutError:
            await self._end_now()
            raise FleetFailed(f"the worker processes did not come up within {READY_WITHIN_S:g} s") from None
        except BaseException:
            await self._end_now()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for member in self.members:
                    self.send(member, "end")
                await self._wait_ended(LEAVES_WITHIN_S)
        finally:
            await self._end_now()

    def send(self, member: Member, order: str, **fields: Any) -> None:
        """Gives an order to a worker process; to one that is gone it is lost, as `gone` says."""
        if member.process.stdin is not None and not member.process.stdin.is_closing():
            member.process.stdin.write(json.dumps({"order": order, **fields}).encode() + b"\n")

    async def _start(self, number: int) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _BOOT, f"broker-demo-worker-{number}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LINE_LIMIT,
        )
        member = Member(number, process)
        self.members.append(member)
        self._tasks += [asyncio.create_task(self._listen(member)), asyncio.create_task(_keep_stderr(member))]
        self.send(member, "hello", **self._hello)

    async def _listen(self, member: Member) -> None:
        assert member.process.stdout is not None  # noqa: S101 - it is a pipe
        while line := await member.process.stdout.readline():
            fields = json.loads(line)
            kind = fields.pop("event")
            if kind == "ready":
                member.worker_id = fields["worker_id"]
                member.ready.set()
            elif kind == "failed":
                member.failure = _failure(fields)
            else:
                self.events.put_nowait(Event(member, kind, fields))
        code = await member.process.wait()
        member.alive = False
        if not member.ready.is_set():
            member.failure = member.failure or FleetFailed(_last_words(member, code))
            member.ready.set()
        self.events.put_nowait(Event(member, "gone", {"how": _how_ended(code)}))

    async def _wait_ended(self, seconds: float) -> None:
        waiting = [asyncio.ensure_future(member.process.wait()) for member in self.members]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)

    async def _end_now(self) -> None:
        """SIGTERM, and SIGKILL for who is left; returns when all are reaped."""
        for number, within_s in ((signal.SIGTERM, TERMINATES_WITHIN_S), (signal.SIGKILL, LEAVES_WITHIN_S)):
            running = [member.process for member in self.members if member.process.returncode is None]
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
            if running:
                await self._wait_ended(within_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _keep_stderr(member: Member) -> None:
    assert member.process.stderr is not None  # noqa: S101 - it is a pipe
    while chunk := await member.process.stderr.read(STDERR_KEPT):
        member.said = (member.said + chunk.decode(errors="replace"))[-STDERR_KEPT:]


def _failure(fields: dict[str, Any]) -> BrokerError:
    return (BrokerUnavailable if fields["exit_code"] == BrokerUnavailable.exit_code else FleetFailed)(fields["text"])


def _last_words(member: Member, code: int) -> str:
    lines = member.said.strip().splitlines() or ["it said nothing"]
    return f"worker process {member.number} {_how_ended(code)} before it was ready: {lines[-1]}"


def _how_ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with code {code}"
