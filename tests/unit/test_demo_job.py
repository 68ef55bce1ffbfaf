"""The worker's side of the demo without a fleet: bodies, unreadable files, the command and its end by force."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import broker
from broker.cli.demo import archive, body, job, straggler
from broker.cli.demo.body import Directory, Tally
from broker.cli.demo.directory import FileHash, Root
from broker.cli.demo.job import Job
from broker.errors import BrokerUnavailable
from tests.support.wait import next_turn, wait_until

Said = list[tuple[str, dict[str, Any]]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LASTS_S", "CLEAN_UP_S", "CHILDREN_AT_MOST_S", "GOES_ON_S", "HOLDS_S"):
        monkeypatch.setattr(body, name, 0.05)


@pytest.fixture
def said() -> Said:
    return []


@pytest.fixture
def say(said: Said) -> Callable[..., None]:
    return lambda event, **fields: said.append((event, fields))


def _directory(path: Path, say: Callable[..., None], tally: Tally) -> Directory:
    return Directory("r:.", Root(str(path)), "", say=say, tally=tally)


# --- bodies ---------------------------------------------------------------------------------------


async def test_a_directory_that_vanished_is_unreadable_and_has_a_digest(
    tmp_path: Path, say: Callable[..., None]
) -> None:
    tally = Tally()
    assert await _directory(tmp_path / "gone", say, tally).run() is not None
    assert tally.take() == {"files": {}, "size": 0, "unreadable": 1}


async def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, say: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    step = FileHash.step

    def failing(self: FileHash) -> bool:
        if self._path.endswith("/a"):
            raise PermissionError
        return step(self)

    monkeypatch.setattr(FileHash, "step", failing)
    tally = Tally()
    assert await _directory(tmp_path, say, tally).run() is not None
    assert (tally.files, tally.unreadable) == ({"r:.": 1}, 1)


@pytest.mark.parametrize("digest", ["d", None])
async def test_a_parent_has_a_digest_where_its_children_have(
    tmp_path: Path, say: Callable[..., None], said: Said, digest: str | None
) -> None:
    (tmp_path / "below").mkdir()
    one = _directory(tmp_path, say, Tally())
    running = asyncio.create_task(one.run())
    await wait_until(lambda: any(event == "waiting" for event, _ in said), "the parent waits")
    one.child_ended("nobody's", "x")
    one.child_ended("below", digest)
    one.child_ended("below", "too late")
    assert (await running is None) == (digest is None)


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_cancel_is_obeyed_or_swallowed(
    tmp_path: Path, say: Callable[..., None], said: Said, swallows: bool
) -> None:
    (tmp_path / "below").mkdir()
    one = _directory(tmp_path, say, Tally())
    running = asyncio.create_task(one.run())
    await wait_until(lambda: any(event == "waiting" for event, _ in said), "the parent waits")
    one.swallows = swallows
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled() is not swallows
    assert (said[-1][0] == "swallowed") is swallows


async def test_a_body_that_is_going_to_swallow_waits_for_its_cancel(tmp_path: Path, say: Callable[..., None]) -> None:
    one = _directory(tmp_path, say, Tally())
    one.swallows = True
    assert await one.run() is not None


async def test_a_chunk_that_is_being_read_is_waited_for(
    tmp_path: Path, say: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    loop, begun, over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def slow(self: FileHash) -> bool:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(over.wait(), loop).result()
        return True

    monkeypatch.setattr(FileHash, "step", slow)
    running = asyncio.create_task(_directory(tmp_path, say, Tally()).run())
    await begun.wait()
    running.cancel()
    await next_turn()
    over.set()
    with pytest.raises(asyncio.CancelledError):
        await running


# --- the worker process ---------------------------------------------------------------------------


class _Block:
    """Stands for `worker.execution(...)`; raises what a gate or a Redis that is away would."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def __aenter__(self) -> None:
        if self._error is not None:
            raise self._error

    async def __aexit__(self, *_: object) -> None:
        return None


class _Worker:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def execution(self, *_: object, **__: object) -> _Block:
        return _Block(self._error)

    async def run_process(self, *_: object, **__: object) -> int:
        if self._error is not None:
            raise self._error
        return 7


def _job(worker: object, path: Path, say: Callable[..., None]) -> Job:
    return Job(worker, {"run_id": "r", "path": str(path), "skip": []}, say)  # type: ignore[arg-type]


@pytest.mark.parametrize(("gone", "how"), [(True, "failed"), (False, "done")])
async def test_how_an_execution_ended_is_said(
    tmp_path: Path, say: Callable[..., None], said: Said, gone: bool, how: str
) -> None:
    one = _job(_Worker(BrokerUnavailable("away") if gone else None), tmp_path, say)
    one.obey({"order": "run", "id": "r:.", "path": "", "parent": None})
    await wait_until(lambda: bool(said) and said[-1][0] == "ended", "the end")
    assert said[-1][1]["how"] == how
    one.obey({"order": "swallow", "id": "r:."})
    assert said[-1] == ("marked", {"id": "r:.", "there": False})


async def test_a_body_is_marked_and_ended_with_its_process(
    tmp_path: Path, say: Callable[..., None], said: Said
) -> None:
    (tmp_path / "below").mkdir()
    one = _job(_Worker(), tmp_path, say)
    one.obey({"order": "run", "id": "r:.", "path": "", "parent": None})
    await wait_until(lambda: any(event == "waiting" for event, _ in said), "the parent waits")
    one.obey({"order": "swallow", "id": "r:."})
    assert said[-1] == ("marked", {"id": "r:.", "there": True})
    one.obey({"order": "child", "id": "r:.", "path": "below", "digest": "d"})
    await one.end()


@pytest.mark.parametrize(("error", "detail"), [(None, "exit code 7"), (OSError("no such"), "no such")])
async def test_a_command_that_ends_too_early_has_failed(
    tmp_path: Path, say: Callable[..., None], said: Said, error: Exception | None, detail: str
) -> None:
    one = _job(_Worker(error), tmp_path, say)
    one.obey({"order": "command", "id": "r:@c", "parent": "r:."})
    await wait_until(lambda: bool(said), "the end")
    assert said == [("ended", {"id": "r:@c", "how": "failed", "digest": None, "detail": detail})]


def _boom(*_: object) -> None:
    raise BrokerUnavailable("away")


def test_a_worker_that_cannot_connect_says_so_on_its_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setattr(os, "dup", lambda _: write)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(job, "_work", _boom)
    with pytest.raises(SystemExit) as left:
        job.main({})
    assert left.value.code == BrokerUnavailable.exit_code
    assert os.read(read, 1000) == b'{"event": "failed", "text": "away", "exit_code": 6}\n'
    os.close(read)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as left:  # nobody reads any more: the parent is gone
        job.main({})
    assert left.value.code == 1
    os.close(write)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
async def worker(embedded_redis: str) -> AsyncIterator[broker.Worker]:
    with redis.Redis.from_url(embedded_redis) as client:
        client.flushall()  # other tests share the server, and leave keys of other types
    async with broker.Worker(embedded_redis) as one:
        yield one


@pytest.mark.skipif(not straggler.can_run(), reason="needs /proc")
@pytest.mark.parametrize("leave", [False, True])
async def test_the_command_is_killed_with_its_worker(
    tmp_path: Path,
    worker: broker.Worker,
    say: Callable[..., None],
    said: Said,
    leave: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    one = _job(worker, tmp_path, say)
    one.obey({"order": "command", "id": f"leave-{leave}", "parent": "r:."})
    await wait_until(lambda: bool(said), "the command is ready")
    assert said[0][0] == "started"
    if leave:
        one.leave()
        await one._leaving
    else:
        await one.end()
    assert codes == [128 + signal.SIGTERM] * leave


def test_the_command_packs_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "skipped").mkdir()
    (tmp_path / "folder" / "skipped").mkdir(parents=True)
    for place in ("a", "folder/b", "folder/skipped/c", "skipped/d"):
        (tmp_path / place).write_text(place * 100)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "fifo")
    chunks = list(archive._chunks(str(tmp_path), frozenset({"skipped"})))
    assert sorted(chunk[:20] for chunk in chunks) == [
        b"aaaaaaaaaaaaaaaaaaaa",
        b"folder/bfolder/bfold",
        b"folder/skipped/cfold",
    ]
    assert 0 < archive.pack(str(tmp_path), frozenset(), 1) < len(gzip.compress(b"")) + 400


def test_the_command_ignores_its_sigterm_before_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(signal, "signal", lambda *of: done.append(of))
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(os, "write", lambda *of: done.append(of))

    def pack(*of: object) -> None:
        if len(done) == 4:
            raise InterruptedError
        done.append(of)

    monkeypatch.setattr(archive, "pack", pack)
    monkeypatch.setattr(archive, "PAUSE_S", 0.0)
    with pytest.raises(InterruptedError):
        archive.main("/p", "s")
    passes = [("/p", frozenset({"s"}), 1), ("/p", frozenset({"s"}), 2)]
    assert done == [(signal.SIGTERM, signal.SIG_IGN), (1, b"ready\n"), *passes]
