"""`broker demo` as a user runs it: a process of its own, and none left after it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.backends import Capability
from tests.support.wait import wait_until_sync

BROKER = (sys.executable, "-m", "broker")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Directories within directories, each with files and more to find: enough to be caught in mid-flight."""
    for first in "abcd":
        for second in "efgh":
            folder = tmp_path / "library" / first / second / "deep"
            folder.mkdir(parents=True)
            for place in (folder, folder.parent, folder.parent.parent):
                for number in range(4):
                    (place / f"{number}.txt").write_text(f"{place} {number}")
    return tmp_path / "library"


@contextmanager
def _demo(*arguments: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [*BROKER, "demo", *map(str, arguments)]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _run(*arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    with _demo(*arguments, **environment) as process:
        out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def _pids(text: str) -> list[int]:
    found = re.search(r"worker processes \(pid ([\d, ]+)\)", text)
    assert found, text
    return [int(pid) for pid in found[1].split(", ")]


def _read_until(process: subprocess.Popen[str], words: str) -> str:
    """What was printed up to the line with these words."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if words in line:
            return text
    raise AssertionError(f"never said {words!r}: {text}")


def _is_alive(pid: int) -> bool:
    """A zombie has ended; whoever adopted it may take its time to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _commands(library: Path) -> list[int]:
    """The demo's command, and nothing else that works on this directory; only once it ignores SIGTERM."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            ignored = re.search(r"^SigIgn:\s*(\w+)", (folder / "status").read_text(), re.MULTILINE)
            if str(library).encode() in words and any(word.endswith(b"archive.py") for word in words):
                found += [int(folder.name)] * bool(ignored and int(ignored[1], 16) >> (signal.SIGTERM - 1) & 1)
    return found


def _read_command(library: Path) -> list[int]:
    return wait_until_sync(lambda: _commands(library), "the start of the command")


def _assert_gone(pids: list[int]) -> None:
    wait_until_sync(lambda: not any(map(_is_alive, pids)), "the end of the worker processes")


# On the embedded default it is played on a terminal, below.
@pytest.mark.needs(Capability.OWN_PROCESS)
def test_a_real_job_is_cancelled_and_every_stop_is_proved(library: Path, redis_url: str) -> None:
    code, out, error = _run(library, "--redis-url", redis_url)
    assert (code, error) == (0, "")
    assert "cancel in mid-flight" in out
    assert "still running: " in out
    assert "stopping (its worker heard and is stopping)" in out
    assert "swallowed its cancel, was named as still running, and ended by itself" in out
    assert re.search(r"[1-9]\d* spawns? (was|were) refused at the closed gate", out)
    assert re.search(r"^  stopped +[1-9]", out, re.MULTILINE)
    assert re.search(r"ack lag stopped +p50 [1-9]", out)
    assert "still running: gzip-archive on w" in out
    assert "gzip-archive is a command that ignores SIGTERM" in out
    assert "gzip-archive was ended by force (SIGKILL), disposition killed" in out
    assert re.search(r"^  killed +1 ", out, re.MULTILINE)
    assert ", 0 still running" in out
    assert not _commands(library)
    _assert_gone(_pids(out))


def test_an_empty_directory_ends_sensibly(tmp_path: Path) -> None:
    code, out, error = _run(tmp_path)
    assert (code, error) == (0, "")
    assert "1 directory, 0 files" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything(library: Path, number: signal.Signals) -> None:
    with _demo(library) as process:
        pids = _pids(_read_until(process, "worker processes"))
        pids += _read_command(library)
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert error == f"broker: {number.name}: interrupted, no worker process is left\n"
    assert "Traceback" not in out
    assert not any(map(_is_alive, pids))


def test_the_fleet_does_not_outlive_a_parent_that_was_killed(library: Path) -> None:
    with _demo(library) as process:
        pids = _pids(_read_until(process, "worker processes"))
        pids += _read_command(library)
        process.kill()
        process.wait()
    _assert_gone(pids)


def test_what_a_killed_worker_held_is_named_and_never_called_stopped(library: Path) -> None:
    with _demo(library) as process:
        pids = _pids(_read_until(process, "worker processes"))
        _read_until(process, "in flight")
        os.kill(pids[0], signal.SIGKILL)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (3, "")
    assert f"worker process 1 (pid {pids[0]}) was killed by SIGKILL" in out
    assert "NOT settled: still running" in out
    _assert_gone(pids)


def test_a_reader_that_goes_away_is_no_traceback(library: Path) -> None:
    with _demo(library) as process:
        pids = _pids(_read_until(process, "worker processes"))
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    _assert_gone(pids)


def test_usage_and_an_unreachable_redis_are_one_line(tmp_path: Path) -> None:
    code, out, error = _run(tmp_path / "missing")
    assert (code, out, error.count("\n")) == (2, "", 1)
    code, out, error = _run(tmp_path, "--redis-url", "redis://127.0.0.1:1/0")
    assert (code, out, error.count("\n")) == (6, "", 1)


def test_a_terminal_sees_the_tree_and_the_embedded_default_needs_no_server(library: Path) -> None:
    out = _on_terminal([*BROKER, "demo", str(library)])
    for words in (
        "broker demo",
        "what really happened",
        "├── ",
        "received",
        "stopped",
        "ended_itself",
        "killed",
        "ack lag",
    ):
        assert words in out, words
    assert "still running" in out
    assert "embedded: gone when this ends" in out
    assert "settled in " in out
    assert out.rstrip().endswith("EXIT 0")
    _assert_gone(_pids(out))


def _on_terminal(command: list[str]) -> str:
    """Everything that a command writes to a terminal of 40 lines by 120, and its exit code."""
    parent, child = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", "PYTHONUTF8": "1"}
    environ.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environ) as process:
        os.close(child)
        out = b""
        try:
            while chunk := os.read(parent, 65536):
                out += chunk
        except OSError:  # Linux says EIO when the last writer has gone
            pass
        finally:
            os.close(parent)
        code = process.wait(timeout=60)
    return f"{out.decode(errors='replace')}\nEXIT {code}"
