"""What every contender's program shares. Only the standard library: it runs with the contender's own interpreter.

    python -m tests.benchmarks.peers.arq worker '{"url": …}'     runs tasks, as its manual says
    python -m tests.benchmarks.peers.arq caller '{"url": …}'     "enqueued"; reads "cancel"; what it was told

Bodies write to a journal, one line per event and one write per line, so that forked and killed processes lose nothing.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field

LONG_S = 3_600.0
JOURNAL = "BENCHMARK_JOURNAL"
"""The variable with the journal's path: tasks get it by inheritance."""


@dataclass(frozen=True)
class Settings:
    """How one scene is played. `at_a_time` is for one worker process; `patience_s` is how long the caller waits."""

    url: str
    tasks: int
    at_a_time: int
    journal: str
    patience_s: float
    worker: int = 0
    options: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the caller was told of one task, in the contender's words; `confirmed`: it may believe that it stopped."""

    task: int
    confirmed: bool
    at_ns: int
    says: str


Enqueued = Callable[[], Awaitable[int]]
"""Call it when all is enqueued. It returns when the caller shall cancel: the moment, in nanoseconds."""

WorkerRole = Callable[[Settings], None]
CallerRole = Callable[[Settings, Enqueued], Coroutine[None, None, Sequence[Answer]]]


def run(worker: WorkerRole | None, caller: CallerRole) -> None:
    """The program: `ROLE SETTINGS`. What a library prints goes to stderr; stdout is for the harness."""
    lines = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    role, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    os.environ[JOURNAL] = settings.journal
    if role == "worker" and worker is not None:
        threading.Thread(target=_end_with_the_harness, daemon=True).start()
        worker(settings)
        return

    async def enqueued() -> int:
        print(json.dumps({"enqueued": settings.tasks}), file=lines)
        if not await asyncio.to_thread(sys.stdin.readline):
            os._exit(1)  # the harness is gone
        called_ns.append(time.monotonic_ns())
        return called_ns[0]

    called_ns: list[int] = []
    answers = asyncio.run(caller(settings, enqueued))
    print(json.dumps({"called_ns": called_ns[0], "answers": [asdict(answer) for answer in answers]}), file=lines)


def _end_with_the_harness() -> None:
    """A worker has a process group of its own; when the harness dies, nobody else would end it."""
    os.read(0, 1)  # not sys.stdin: a fork would copy its lock, held
    os.killpg(0, signal.SIGKILL)


def note(event: str, task: int) -> None:
    """One line of the journal: event, task, process, nanoseconds of CLOCK_MONOTONIC."""
    line = f"{event} {task} {os.getpid()} {time.monotonic_ns()}\n"
    journal = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(journal, line.encode())
    finally:
        os.close(journal)


async def hold(task: int) -> None:
    """The work: an interruptible sleep."""
    note("start", task)
    try:
        await asyncio.sleep(LONG_S)
    finally:
        note("stop", task)


def hold_thread(task: int) -> None:
    """The same for contenders whose tasks are functions: it can be interrupted every 10 ms."""
    note("start", task)
    try:
        end = time.monotonic() + LONG_S
        while time.monotonic() < end:
            time.sleep(0.01)
    finally:
        note("stop", task)


async def ask(settings: Settings, task: int, question: Awaitable[tuple[bool, str]]) -> Answer:
    """Waits for what the contender says of one task, as long as the caller has patience."""
    try:
        async with asyncio.timeout(settings.patience_s):
            confirmed, says = await question
    except TimeoutError:
        confirmed, says = False, "no answer"
    except Exception as error:  # noqa: BLE001 - whatever a contender raises is what its caller gets
        confirmed, says = False, f"{type(error).__name__}: {error}"[:120]
    return Answer(task, confirmed, time.monotonic_ns(), says)
