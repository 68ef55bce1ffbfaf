"""What the supervisor knows of processes, and what it is asked: without one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.worker.reaper.below import Group, Tree
from broker.worker.reaper.launch import prctl
from broker.worker.reaper.proc import descendants, look_up, open_handle, send
from broker.worker.reaper.request import Request, read_request

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        yield child
        child.kill()


@on_linux
def test_a_name_with_brackets_confuses_nobody(tmp_path: Path) -> None:
    program = tmp_path / ") S 1 (x) y"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "1000"]) as child:
        found = look_up(child.pid)
        assert found is not None
        assert (found.parent, found.session, found.lives) == (os.getpid(), os.getsid(0), True)
        assert child.pid in {each.pid for each in descendants(os.getpid())}
        child.kill()
    assert look_up(child.pid) is None


@on_linux
@pytest.mark.parametrize("pidfd", [True, False])
def test_a_signal_reaches_the_process_that_was_seen_and_no_other(
    pidfd: bool, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    seen = look_up(child.pid)
    assert seen is not None
    seen.started -= 1
    assert not send(seen, signal.SIGKILL)
    assert child.poll() is None
    seen.started += 1
    assert send(seen, signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
    assert not send(seen, signal.SIGKILL)


@on_linux
def test_no_handle_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert open_handle(os.getpid()) is None


def test_what_ended_before_its_sigkill_was_not_killed() -> None:
    tree = Tree(1)
    tree.killed = {7, 8, 9}
    tree.reaped(7, signal.SIGKILL)
    tree.reaped(8, signal.SIGTERM)
    tree.reaped(9, 3 << 8)
    assert tree.killed == {7}


def test_a_group_is_there_until_its_last_member_is_reaped(child: subprocess.Popen[bytes]) -> None:
    group = Group(child.pid)
    assert (group.count(), group.is_gone()) == (1, False)
    group.tell(orphans_only=True)
    assert child.poll() is None
    group.kill()
    assert child.wait() == -signal.SIGKILL
    assert (group.count(), group.is_gone(), group.killed) == (0, True, {child.pid})


def test_a_group_that_may_not_be_signalled_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(group: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    assert not Group(5).is_gone()


def test_an_option_that_does_not_exist_is_said() -> None:
    assert not prctl(-1, 0)


@pytest.mark.parametrize("argv", [[b"true"], [b"sh", b"-c", b"", "ä\n".encode()]])
@pytest.mark.parametrize("env", [{}, {b"A": b"", b"B": b"b=c\n", b"BIG": b"x" * 300_000}])
def test_a_request_arrives_as_it_was(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    sent = Request(argv, env, grace_s=float("inf"), group=7, whole_tree=True)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=theirs.sendall, args=(sent.encode(),))  # more than the channel holds at once
        sender.start()
        got = read_request(ours.fileno())
        sender.join()
    assert got is not None
    assert (got.argv, got.env, got.grace_s, got.group, got.whole_tree) == (argv, env, float("inf"), 7, True)


@pytest.mark.parametrize("length", [0, 5, 8, 20])
def test_a_request_that_breaks_off_starts_nothing(length: int) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(Request([b"true"], {}, grace_s=1, group=0, whole_tree=True).encode()[:length])
        theirs.close()
        assert read_request(ours.fileno()) is None
