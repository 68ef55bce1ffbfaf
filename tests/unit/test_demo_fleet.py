"""The control plane's side of the demo without a real fleet: worker processes that fail, and what is made of it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from broker.cli.demo import fleet, words
from broker.cli.demo.crawl import Crawl
from broker.cli.demo.fleet import Event, Fleet, FleetFailed
from broker.cli.demo.marks import Marks
from broker.cli.demo.notes import Notes
from broker.cli.demo.tree import Job, Node, Tree
from broker.errors import BrokerError, BrokerUnavailable
from broker.protocol.states import Cause, Disposition
from tests.support.wait import wait_until

READY = "import json, sys; print(json.dumps({'event': 'ready', 'worker_id': 'w'}), flush=True); sys.stdin.readline();"


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What the worker processes run. They start without `site`, which is most of their time."""
    monkeypatch.setattr(fleet, "TERMINATES_WITHIN_S", 0.1)
    return lambda text: monkeypatch.setattr(fleet, "_BOOT", text)


FAILED = json.dumps({"event": "failed", "text": "away", "exit_code": 6})


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("import sys; sys.exit('no luck')", FleetFailed, "worker process 1 left with code 1 .*: no luck"),
        ("import os; os.kill(os.getpid(), 9)", FleetFailed, "was killed by SIGKILL .*: it said nothing"),
        (f"print('{FAILED}')", BrokerUnavailable, "away"),
        (f"print('{FAILED.replace('6', '1')}')", FleetFailed, "away"),
    ],
)
async def test_a_worker_that_does_not_come_up_says_why(
    boot: Callable[[str], None], text: str, kind: type[BrokerError], words: str
) -> None:
    boot(text)
    with pytest.raises(kind, match=words):
        async with Fleet(1, {}):
            pass


async def test_a_worker_that_never_comes_up_is_not_waited_for(
    boot: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    boot("import sys; sys.stdin.read()")
    monkeypatch.setattr(fleet, "READY_WITHIN_S", 0.0)
    one = Fleet(1, {})
    with pytest.raises(FleetFailed, match="did not come up within 0 s"):
        await one.__aenter__()
    assert one.members[0].process.returncode is not None


async def test_a_worker_that_does_not_leave_is_killed(
    boot: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} signal.pause()")
    monkeypatch.setattr(fleet, "LEAVES_WITHIN_S", 0.1)
    async with Fleet(1, {}) as one:
        pass
    assert one.members[0].process.returncode == -9


async def test_a_worker_that_dies_is_told_of_and_orders_to_it_are_lost(boot: Callable[[str], None]) -> None:
    boot(f"{READY} sys.exit(3)")
    async with Fleet(1, {}) as one:
        event = await one.events.get()
        assert (event.kind, event.fields) == ("gone", {"how": "left with code 3"})
        assert not one.members[0].alive
        one.send(one.members[0], "run")


# --- the crawl ------------------------------------------------------------------------------------


class _Fleet:
    """Takes orders, and says what a test says."""

    def __init__(self, size: int) -> None:
        self.members = [SimpleNamespace(name=f"w{n}", number=n, pid=n, alive=True) for n in range(1, size + 1)]
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.orders: list[tuple[str, dict[str, Any]]] = []

    def send(self, member: object, order: str, **fields: Any) -> None:
        self.orders.append((order, fields))

    def say(self, kind: str, **fields: Any) -> None:
        self.events.put_nowait(Event(self.members[0], kind, fields))  # type: ignore[arg-type]


class _Control:
    def __init__(self, **refused: str) -> None:
        self.refused = tuple(refused.items())

    async def register(self, run_id: str, executions: list[Any]) -> Any:
        ids = {one.execution_id for one in executions}
        return SimpleNamespace(refused=[(f"r:{one}", code) for one, code in self.refused if f"r:{one}" in ids])


def _crawl(tree: Tree, size: int = 1, **refused: str) -> tuple[Crawl, _Fleet]:
    workers = _Fleet(size)
    return Crawl(_Control(**refused), workers, tree), workers  # type: ignore[arg-type]


async def test_the_command_is_dispatched_beside_the_root_and_is_no_child_of_its_body() -> None:
    tree = Tree("r")
    command = tree.add_command("c")
    assert not tree.begun
    one, workers = _crawl(tree, 2)
    async with one:
        await wait_until(lambda: len(workers.orders) == 2, "both are dispatched")
        assert [order for order, _ in workers.orders] == ["run", "command"]
        workers.say("started", id=command.execution_id)
        workers.say("started", id=tree.root.execution_id)
        await wait_until(lambda: tree.begun, "both run")
        workers.say("ended", id=command.execution_id, how="stopped", detail="", digest=None)
        await wait_until(lambda: command.job is Job.STOPPED, "the command has ended")
    assert len(workers.orders) == 2
    assert (tree.directories, tree.root.not_spawned) == (1, 0)


async def test_a_spawn_that_is_refused_is_told_to_its_parent() -> None:
    tree = Tree("r")
    one, workers = _crawl(tree, a="run_cancelled", b="parent_conflict")
    async with one:
        await wait_until(lambda: bool(workers.orders), "the root is dispatched")
        for path in "abc":
            workers.say("spawn", id=tree.root.execution_id, path=path)
        await wait_until(lambda: len(workers.orders) == 4, "two are refused, one is dispatched")
        jobs = [child.job for child in tree.root.children]
    assert (jobs, tree.refused_at_gate) == ([Job.REFUSED, Job.FAILED, Job.QUEUED], 1)


async def test_without_a_worker_nothing_is_dispatched_and_nobody_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    real_timeout = asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout", lambda _: real_timeout(0.0))
    tree = Tree("r")
    one, workers = _crawl(tree)
    workers.members[0].alive = False
    async with one:
        workers.say("gone", how="was killed by SIGKILL")
        await wait_until(lambda: bool(one.lost), "the worker is gone")
        tree.root.worker = "w1"
        tree.move(tree.root, Job.RUNNING)
        assert await one.mark_one() is None
    assert [order for order, _ in workers.orders] == ["swallow"]
    assert one.lost == ["worker process 1 (pid 1) was killed by SIGKILL"]


async def test_what_goes_wrong_inside_the_crawl_is_raised_by_its_tick() -> None:
    one, workers = _crawl(Tree("r"))
    async with one:
        workers.say("progress", files={"unknown": 1})
        with pytest.raises(KeyError, match="unknown"):
            await one.tick(10.0)


# --- words ----------------------------------------------------------------------------------------


def _command() -> tuple[Tree, Node]:
    tree = Tree("r")
    node = tree.add_command("c")
    node.worker, node.cause, node.covered = "w1", Cause.STOPPING, True
    return tree, node


def test_a_command_that_ignores_its_cancel_is_named_until_it_is_killed() -> None:
    tree, node = _command()
    notes = Notes(tree, SimpleNamespace(lost=[], swallowed=None))  # type: ignore[arg-type]
    marks = Marks.for_console(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii")))
    node.disposition = Disposition.RECEIVED
    lines = notes.look(cancelled=True)
    assert "c is a command that ignores SIGTERM; SIGKILL follows after 3 s" in lines
    assert "still running: c on w1: stopping (its worker heard and is stopping), told 0.0 s ago" in lines
    assert marks.of(node).plain == "! still running: stopping 0.0 s"
    node.disposition = Disposition.KILLED
    assert "c was ended by force (SIGKILL), disposition killed" in notes.look(cancelled=True)
    assert notes.look(cancelled=True) == []
    assert marks.of(node).plain == "X killed"


@pytest.mark.parametrize("job", Job)
def test_every_job_has_a_mark(job: Job) -> None:
    tree, node = _command()
    marks = Marks.for_console(Console(file=io.StringIO()))
    tree.move(node, job)
    node.detail = "why"
    assert marks.of(node).plain or job in (Job.QUEUED, Job.STOPPED)


def test_many_that_still_run_are_counted_by_cause() -> None:
    tree, node = _command()
    assert words.still_running_count([node, tree.root]) == "still running: 2 executions (1 stopping, 1 not told yet)"
    tree.root.relative = "x" * 100
    assert words.place(tree.root) == "..." + "x" * 57
