"""The client commands as processes of their own: Ctrl-C while they wait, and what a terminal sees."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.answers import cancelled_run, execution, report, straggler
from tests.support.stub_server import Asked, Canned, StubServer, stub_server
from tests.support.wait import wait_until_sync

BROKER = (sys.executable, "-m", "broker")
STILL = report(straggler("leaf-1", worker_id="w-1"))


def _environ(server: StubServer, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_") and name != "NO_COLOR"}
    return {**clean, "BROKER_SERVER": server.url, "TERM": "xterm-256color", "COLUMNS": "120", **more}


@contextmanager
def _holding(path_end: str) -> Iterator[tuple[StubServer, Callable[[], bool]]]:
    """A server that does not answer what ends so; and whether it has been asked."""
    asked, go_on = threading.Event(), threading.Event()

    def answer(one: Asked) -> Canned:
        if one.path.endswith(path_end) and (one.method == "POST" or "wait_ms" in one.query):
            asked.set()
            go_on.wait(30)
        return Canned(STILL if one.path.endswith("cancellation") else cancelled_run(still_running=1))

    with stub_server(answer) as server:
        try:
            yield server, asked.is_set
        finally:
            go_on.set()


def _interrupted(server: StubServer, is_asked: Callable[[], bool], *words: str) -> tuple[int, str, str]:
    with subprocess.Popen(
        [*BROKER, *words], env=_environ(server), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until_sync(is_asked, "the request that is not answered", 60)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def test_ctrl_c_during_a_wait_says_that_the_cancel_goes_on() -> None:
    with _holding("/cancellation") as (server, is_asked):
        code, out, error = _interrupted(server, is_asked, "execution", "cancel-run", "r", "--wait", "300")
    assert code == 130
    assert out == "Run r cancelled: 2 cancelled, 1 skipped, 0 errors\n"
    assert error == "broker: the cancel goes on; see: broker run report r --cancel-id c_1\n"


def test_ctrl_c_before_the_answer_says_that_nobody_knows() -> None:
    with _holding("/cancel-tree") as (server, is_asked):
        code, out, error = _interrupted(server, is_asked, "execution", "cancel-run", "r")
    assert (code, out) == (130, "")
    assert error == (
        "broker: interrupted before the answer: the cancel may have been accepted, see: broker run report r\n"
    )


def test_ctrl_c_during_a_watch_is_one_line() -> None:
    with _holding("/cancellation") as (server, is_asked):
        code, _, error = _interrupted(server, is_asked, "run", "watch", "r")
    assert (code, error) == (130, "broker: interrupted\n")


def _on_terminal(server: StubServer, *words: str, **environ: str) -> tuple[int, str]:
    """Exit code, and everything that a terminal of 120 columns was sent."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*BROKER, *words], env=_environ(server, **environ), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b"".join(iter(lambda: _read(ours), b""))
        process.wait(60)
    os.close(ours)
    return process.returncode, seen.decode()


def _read(terminal: int) -> bytes:
    assert select.select([terminal], [], [], 60)[0], "nothing was written to the terminal for 60 s"
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed: how Linux says that a terminal has ended
        return b""


def _answers(asked: Asked) -> Canned:
    if asked.path.endswith("cancellation"):
        return Canned(report() if asked.query.get("wait_ms") else STILL)
    if asked.path.endswith("/r"):
        nodes = [execution("root", disposition="stopped", status="cancelled"), execution("leaf", "root")]
        return Canned({"run_id": "r", "workflow_status": "running", "total_nodes": 2, "nodes": nodes})
    return Canned(cancelled_run(still_running=1))


def test_a_terminal_sees_the_progress_of_a_wait_and_the_end() -> None:
    """The server has no patience at first: the line stands on the terminal until it is asked again."""
    impatient = iter([Canned(STILL)])

    def answers(asked: Asked) -> Canned:
        return next(impatient, _answers(asked)) if asked.query.get("wait_ms") else _answers(asked)

    with stub_server(answers) as server:
        code, seen = _on_terminal(server, "execution", "cancel-run", "r", "--wait", "60")
    assert code == 0
    assert "2 of 3 executions settled, still running: 1 (1 no_ack)" in seen
    assert "Still running: 0" in seen.splitlines()[-1]
    assert server.asked[-1].query["wait_ms"] == "1000"


def test_a_watch_on_a_terminal_is_drawn_and_leaves_the_last_report() -> None:
    with stub_server(_answers) as server:
        code, seen = _on_terminal(server, "run", "watch", "r")
    assert code == 0
    assert "leaf-1" in seen
    assert "Still running: 0" in seen.splitlines()[-1]


def test_colours_are_for_terminals_whose_user_did_not_ask_for_less() -> None:
    with stub_server(_answers) as server:
        _, seen = _on_terminal(server, "run", "tree", "r")
        assert "\x1b[32m" in seen
        assert "\x1b" not in _on_terminal(server, "run", "tree", "r", NO_COLOR="1")[1]
        assert "\x1b" not in _on_terminal(server, "run", "tree", "r", TERM="dumb")[1]
        piped = subprocess.run([*BROKER, "run", "tree", "r"], env=_environ(server), capture_output=True, check=True)
    assert "└── leaf" in piped.stdout.decode()
    assert b"\x1b" not in piped.stdout


def test_an_output_without_unicode_gets_a_tree_all_the_same() -> None:
    with stub_server(_answers) as server:
        environ = _environ(server, PYTHONIOENCODING="ascii")
        done = subprocess.run([*BROKER, "run", "tree", "r"], env=environ, capture_output=True, check=True)
    assert b"`-- leaf" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_traceback() -> None:
    nodes = [execution(f"n{number}") for number in range(5_000)]
    run = {"run_id": "r", "workflow_status": "running", "total_nodes": 5_000, "nodes": nodes}
    with stub_server(lambda _: Canned(run)) as server:
        reading, writing = os.pipe()
        command = [*BROKER, "run", "tree", "r", "--all"]
        process = subprocess.Popen(command, env=_environ(server), stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        os.close(reading)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (1, b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(shell: str) -> None:
    environ = {**os.environ, "_BROKER_COMPLETE": f"complete_{shell}", "COMP_WORDS": "broker exec", "COMP_CWORD": "1"}
    environ |= {"_TYPER_COMPLETE_ARGS": "broker exec", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [Path(sys.executable).with_name("broker")], env=environ, capture_output=True, text=True, check=False
    )
    assert "execution" in done.stdout
