"""The supervisor's side of the fleet: it starts processes, does faults to them, and knows who is dead."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chaos.child import Orders
from tests.chaos.plan import Shape
from tests.chaos.proxy import Link
from tests.chaos.truth import TruthFile
from tests.chaos.undertaker import Undertaker
from tests.support.redis_server import RedisServer
from tests.support.tree import ROOT
from tests.support.wait import spread


@dataclass
class Member:
    """A place in the fleet and the process that fills it now. A stopped one is not killed as well."""

    module: str
    orders: Orders
    link: Link
    process: asyncio.subprocess.Process | None = None
    watch: asyncio.Task[None] | None = None
    busy: bool = False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


class Fleet:
    """Workers, control planes and their links on one Redis. Half of the workers have stable ids."""

    def __init__(self, server: RedisServer, shape: Shape, folder: Path, began_us: int, ends_us: int, beat_s: float):
        self.server = server
        self.folder = folder
        self.truth = TruthFile(folder / "supervisor.jsonl")
        self.crashes: list[str] = []
        self._orders = Orders("", str(folder), 0, "", began_us, ends_us, beat_s, beat_s * 4, shape)
        self._stack = AsyncExitStack()
        self._ending = False
        self.undertaker = Undertaker(folder)
        self._spares: list[tuple[asyncio.subprocess.Process, asyncio.Task[None]]] = []
        self.workers: list[Member] = []
        self.controls: list[Member] = []

    @property
    def members(self) -> list[Member]:
        return self.workers + self.controls

    @property
    def links(self) -> list[Link]:
        return [member.link for member in self.members]

    async def __aenter__(self) -> Self:
        shape = self._orders.shape
        for index in range(shape.workers):
            worker_id = f"c{shape.seed}-worker-{index}" if index % 2 == 0 else ""
            self.workers.append(await self._member("worker_process", index, worker_id))
        for index in range(shape.controls):
            self.controls.append(await self._member("control_process", index, ""))
        for member in self.members:
            await self.start(member)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends everything. It is no part of the round, so it is not written down: whoever lived, lived in the end."""
        self._ending = True
        running = [(one.process, one.watch) for one in self.members if one.process is not None] + self._spares
        for process, _ in running:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(watch for _, watch in running if watch is not None), return_exceptions=True)
        await self._stack.aclose()
        self.truth.close()
        self.undertaker.close()

    async def _member(self, module: str, index: int, worker_id: str) -> Member:
        link = await self._stack.enter_async_context(Link(self.server.port))
        return Member(module, replace(self._orders, url=link.url, index=index, worker_id=worker_id), link)

    async def start(self, member: Member) -> None:
        """Fills the place, and fills it again whenever its process ends."""
        member.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"tests.chaos.{member.module}", member.orders.argument(),
            cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.truth.write("started", member.module, member.orders.index, member.process.pid)
        member.watch = asyncio.create_task(self._replace(member, member.process))

    async def _replace(self, member: Member, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self._ending:
            return
        self.truth.write("died", process.pid, code)
        if member.module == "worker_process" and not member.orders.worker_id:
            self.undertaker.take(f"worker-{member.orders.index}-{process.pid}", process.pid)
        if code not in (0, -signal.SIGKILL):
            self.crashes.append(f"{member.module} {member.orders.index}, process {process.pid}, left with code {code}")
        if member.process is process:
            await self.start(member)

    # --- faults -------------------------------------------------------------------------------------------

    def kill(self, member: Member) -> None:
        """SIGKILL. What was running in it has ended when the signal was sent, not before."""
        assert member.process is not None
        if member.process.returncode is None:
            self._signal(member.pid, signal.SIGKILL, "killing")

    async def stop_for(self, member: Member, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after that time."""
        pid = member.pid
        self._signal(pid, signal.SIGSTOP, "stopped")
        try:
            await spread(seconds)
        finally:
            self._signal(pid, signal.SIGCONT, "continued")

    async def replace_stopped(self, member: Member) -> None:
        """A stopped process is taken for dead: a newer one takes its id, and the old one goes on then."""
        old, watch = member.process, member.watch
        assert old is not None
        assert watch is not None
        self._signal(old.pid, signal.SIGSTOP, "stopped")
        try:
            await spread(member.orders.heartbeat_ttl_s + 1.0)
            self._spares.append((old, watch))
            self.truth.write("replacing", old.pid)
            await self.start(member)
            await spread(1.5)
        finally:
            self._signal(old.pid, signal.SIGCONT, "continued")

    def _signal(self, pid: int, number: signal.Signals, word: str) -> None:
        """Not by asyncio's own: there Popen may reap what the child watcher waits for, and the code is lost."""
        self.truth.write(word, pid)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self.truth.write("gone", pid)
