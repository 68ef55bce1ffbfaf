"""One scene: N tasks sleep, something may go wrong, the caller cancels them; what it was told, and what happened."""

import asyncio
import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.benchmarks.peers.contender import Contender, Variant
from tests.benchmarks.peers.journal import Journal
from tests.benchmarks.peers.outcome import Outcome, outcome
from tests.benchmarks.peers.program import Answer, Settings
from tests.support.tree import ROOT

START_S = 90.0
SLOW_S = 30.0  # that a caller may take beyond its patience
SETTLED_S = 2.0
"""Between the last start and the cancel: what a contender does when it starts (subscribe, sweep) is over by then."""

LINE_BYTES = 64 * 1024 * 1024
LAST_LINES = 3  # of a failed process's stderr


@dataclass(frozen=True)
class Scene:
    """`patience_s` is the caller's; the scene is over when the caller is, and `after_s` later at the latest."""

    name: str
    patience_s: float
    after_s: float = 5.0
    drop: bool = False
    restart_after_s: float | None = None
    """The workers are killed before the cancel, and come back so many seconds after it."""


PLAIN = Scene("plain", patience_s=60.0)
DROP = Scene("drop", patience_s=10.0, drop=True)
DEAD = Scene("dead", patience_s=35.0, restart_after_s=18.0)
"""A dead worker of this project may be replaced when its heartbeat has expired, after 15 s."""


@dataclass(frozen=True)
class Player:
    """A contender that is installed: which interpreter runs it, in which variant."""

    contender: Contender
    variant: Variant
    python: Path
    module: str


async def play(player: Player, scene: Scene, url: str, tasks: int) -> Outcome:
    """Raises RuntimeError or TimeoutError, with the reason, where the contender did not get to the end."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        journal = await stack.enter_async_context(Journal(folder / "journal"))
        settings = _settings(player, scene, url, tasks, journal.path)
        group = await stack.enter_async_context(contextlib.aclosing(_Workers(player, settings, folder)))
        await group.start()
        caller = await stack.enter_async_context(_caller(player, settings, folder))
        await _line(caller, START_S, folder)
        await _until_started(journal, tasks, folder)
        await asyncio.sleep(SETTLED_S)
        await _go_wrong(scene, url, group, journal)
        assert caller.stdin is not None
        cancel_ns = time.monotonic_ns()
        caller.stdin.write(b"cancel\n")
        restart = asyncio.create_task(_restart(scene, group))
        stack.callback(restart.cancel)
        told = await _line(caller, scene.patience_s + SLOW_S, folder)
        await restart
        await journal.until_stopped(tasks, 0.0 if scene.restart_after_s else scene.after_s)
        if scene.restart_after_s:
            await asyncio.sleep(scene.after_s)  # what would run again has begun by then
            journal.look()
        answers = [Answer(**answer) for answer in told["answers"]]
        again = len(journal.starts_after(cancel_ns))
        by_death = journal.ended_by_death()
        return outcome(told["called_ns"], answers, journal.stops_ns(), again, time.monotonic_ns(), by_death)


def _settings(player: Player, scene: Scene, url: str, tasks: int, journal: Path) -> Settings:
    at_a_time = -(-tasks // max(player.contender.workers, 1))
    return Settings(url, tasks, at_a_time, str(journal), scene.patience_s, options=dict(player.variant.options))


async def _go_wrong(scene: Scene, url: str, workers: "_Workers", journal: Journal) -> None:
    if scene.drop:
        async with Redis.from_url(url) as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
    if scene.restart_after_s is not None:
        workers.kill()
        journal.kill_all()
        await journal.until_stopped(len(journal.started()), START_S)


async def _restart(scene: Scene, workers: "_Workers") -> None:
    if scene.restart_after_s is not None:
        await asyncio.sleep(scene.restart_after_s)
        await workers.start(again=True)


class _Workers:
    """The worker processes of a contender, each the first of a process group."""

    def __init__(self, player: Player, settings: Settings, folder: Path) -> None:
        self._player, self._settings, self._folder = player, settings, folder
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, *, again: bool = False) -> None:
        for number in range(self._player.contender.workers):
            options = {**self._settings.options, "again": 1.0} if again else self._settings.options
            settings = replace(self._settings, worker=number, options=options)
            self._processes.append(await _spawn(self._player, "worker", settings, self._folder))

    def kill(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def aclose(self) -> None:
        self.kill()
        for process in self._processes:
            await process.wait()


async def _spawn(player: Player, role: str, settings: Settings, folder: Path) -> asyncio.subprocess.Process:
    program = (str(player.python), "-m", player.module, role, json.dumps(asdict(settings)))
    with (folder / role).open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            *program,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if role == "caller" else errors,
            stderr=errors,
            start_new_session=True,
            limit=LINE_BYTES,
        )


@contextlib.asynccontextmanager
async def _caller(player: Player, settings: Settings, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await _spawn(player, "caller", settings, folder)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10.0)  # it may have servers of its own to end
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _line(caller: asyncio.subprocess.Process, timeout_s: float, folder: Path) -> Any:
    assert caller.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            line = await caller.stdout.readline()
    except TimeoutError:
        raise TimeoutError(f"the caller did not finish within {timeout_s:g} s") from None
    if not line:
        raise RuntimeError(f"the caller ended: {_last_lines(folder / 'caller')}")
    return json.loads(line)


async def _until_started(journal: Journal, tasks: int, folder: Path) -> None:
    try:
        await journal.until_started(tasks, START_S)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; the worker: {_last_lines(folder / 'worker')}") from None


def _last_lines(path: Path) -> str:
    """What a process wrote last, on one line."""
    written = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return " | ".join(written[-LAST_LINES:]) or "silent"
