"""The story of the demo, in the order in which it is watched: count, fleet, crawl, cancel, follow, report."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from contextlib import AsyncExitStack
from typing import Protocol

import broker
from broker.cli.demo import straggler, words
from broker.cli.demo.crawl import Crawl
from broker.cli.demo.directory import Count, Root, count
from broker.cli.demo.fleet import Fleet
from broker.cli.demo.notes import Notes
from broker.cli.demo.tree import Tree
from broker.cli.demo.words import Scene
from broker.errors import BrokerUnavailable, NoCancellation

FLEET = 3
TICK_S = 0.1
COMMAND = "gzip-archive"
"""The name of the execution that is a command."""
CANCEL_AT = 0.45
"""The share of the files that is hashed when the run is cancelled."""
CANCEL_AT_IN_FLIGHT = 150
"""... or so many executions at a time, where there are many more files than can be hashed in a few seconds."""
CANCEL_AT_S = 8.0
"""... or, on a slow disc, after so long."""
PATIENCE_S = 8.0
"""How long the demo waits for everything to settle; it takes about half of that."""
STILL_RUNNING = 3
"""Exit code where something has not settled: no demo does that, unless a worker process was killed."""


class View(Protocol):
    """What shows the story: Rich on a terminal, else plain lines."""

    def open(self, scene: Scene) -> None:
        """The fleet is up, and the job begins."""

    def note(self, text: str) -> None:
        """Something happened that is worth a line."""

    def draw(self, *, cancelled: bool) -> None:
        """Called ten times a second."""

    def close(self, report: broker.CancelReport) -> None:
        """Everything has settled, or the patience has ended."""


async def tell(root: Root, redis_url: str, view: View) -> int:
    """Runs the demo; the exit code. Raises BrokerUnavailable and what else the control plane raises."""
    tree = Tree(f"demo-{secrets.token_hex(3)}")
    if straggler.can_run():
        tree.add_command(COMMAND)
    counting = _in_thread(root)
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(broker.connect(redis_url))
        hello = {"redis_url": control.redis_url, "run_id": tree.run_id, "path": root.path, "skip": sorted(root.skip)}
        fleet = await stack.enter_async_context(Fleet(FLEET, hello))
        total = await counting
        embedded = redis_url.startswith("embedded:")
        view.open(Scene(root, total, tree, fleet.members, control.redis_url, embedded))
        if tree.command is None:
            view.note("left out: the command that ignores SIGTERM, as there is no /proc here")
        crawl = await stack.enter_async_context(Crawl(control, fleet, tree))
        play = _Play(control, crawl, tree, total, view)
        why = await play.crawl()
        report = await play.cancel(why)
        view.close(report)
    return 0 if report.settled else STILL_RUNNING


class _Play:
    """The two acts: the crawl, and its cancellation."""

    def __init__(self, control: broker.Broker, crawl: Crawl, tree: Tree, total: Count, view: View) -> None:
        self._control = control
        self._crawl = crawl
        self._tree = tree
        self._total = total
        self._view = view
        self._notes = Notes(tree, crawl)

    async def crawl(self) -> str:
        """Until it is time to cancel; answers why it is."""
        begun_at = time.monotonic()
        while not (why := self._why_cancel(time.monotonic() - begun_at)):
            await self._tick(cancelled=False)
        return why

    def _why_cancel(self, seconds: float) -> str:
        tree, total = self._tree, self._total
        if not tree.begun and seconds < CANCEL_AT_S and not self._crawl.lost:
            return ""
        if self._crawl.over:
            return "over"
        if self._crawl.lost:
            return "a worker process is gone"
        if tree.in_flight and total.complete and tree.hashed >= int(CANCEL_AT * total.files):
            return "the job is half done"
        if tree.in_flight >= CANCEL_AT_IN_FLIGHT:
            return f"{CANCEL_AT_IN_FLIGHT} executions run at a time"
        return f"{CANCEL_AT_S:g} s are over" if seconds > CANCEL_AT_S else ""

    async def cancel(self, why: str) -> broker.CancelReport:
        """Cancels the run, and follows what the broker reports until it has settled."""
        if self._crawl.over:
            self._view.note(f"the job has ended before it could be cancelled: {self._tree.root.detail}")
        else:
            await self._crawl.mark_one()
            self._view.note(words.asking(self._tree, self._total, why))
        cancelling = asyncio.create_task(
            self._control.cancel_run(
                self._tree.run_id, reason="cancelled in mid-flight", requested_by="broker demo", wait=PATIENCE_S
            )
        )
        looking = asyncio.create_task(self._keep_looking())
        try:
            while not cancelling.done():
                await self._tick(cancelled=True)
            report = await cancelling
            self._tree.learn(report)
        finally:
            cancelling.cancel()
            looking.cancel()
        await self._tick(cancelled=True)
        return report

    async def _keep_looking(self) -> None:
        while True:
            with contextlib.suppress(NoCancellation, BrokerUnavailable):  # the gate is open; the cancel itself will say
                self._tree.learn(await self._control.report(self._tree.run_id))
            await asyncio.sleep(TICK_S)

    async def _tick(self, *, cancelled: bool) -> None:
        await self._crawl.tick(TICK_S)
        for line in self._notes.look(cancelled=cancelled):
            self._view.note(line)
        self._view.draw(cancelled=cancelled)


def _in_thread(root: Root) -> asyncio.Future[Count]:
    """Counts in a daemon thread: a disc that hangs must not hold up Ctrl-C."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Count] = loop.create_future()

    def tell_count(found: Count) -> None:
        if not future.done():
            future.set_result(found)

    def work() -> None:
        loop.call_soon_threadsafe(tell_count, count(root))

    threading.Thread(target=work, name="broker-demo-count", daemon=True).start()
    return future
