"""A real redis-server of our own: on a free loopback port, in a temporary folder, and gone afterwards.

Tests kill it, stop it in its tracks and bring it back on the same port. It only ever signals the process it started,
and that one does not outlive the tests, not even when they are killed with SIGKILL.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.support.wait import WaitTimeout, wait_until_sync

PROGRAMS = ("redis-server", "valkey-server")
OLDEST_MAJOR = 7
MISSING = f"no {' or '.join(PROGRAMS)} {OLDEST_MAJOR} or newer on PATH"

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
GUARD = 'read -r _ || { kill -9 "$1"; rm -rf "$2"; }'
"""A shell that waits on a pipe from us. Its end without a line means that we were killed: then the server goes too."""

START_ATTEMPTS = 5
"""A free port is only free until somebody else takes it, so the first start may have to be repeated."""


@functools.cache
def find_program() -> str | None:
    """Path of a server program that is new enough, or None where there is none."""
    paths = [path for name in PROGRAMS if (path := shutil.which(name))]
    return next((path for path in paths if _major_version(path) >= OLDEST_MAJOR), None)


def _major_version(path: str) -> int:
    answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10)
    found = re.search(r"\bv=(\d+)\.", answer.stdout)
    return int(found[1]) if found else 0


class ServerDied(RuntimeError):
    """The process left before it answered, for instance because its port was taken meanwhile."""


class RedisServer:
    """One redis-server process.

    `durable=True` writes an append-only file and syncs it before every answer, so that what it acknowledged is still
    there after `kill()` and `restart()`. Without it a restart begins empty.
    """

    def __init__(self, *, durable: bool = False, options: tuple[str, ...] = ()) -> None:
        self._durable = durable
        self._options = options
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._port = 0

    @property
    def port(self) -> int:
        """The same from the first start until `stop()`."""
        return self._port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> str:
        """Start it on a free port, wait until it answers, and return its URL."""
        if self._process is not None:
            raise RuntimeError(f"already started, on port {self._port}")
        self._folder = tempfile.TemporaryDirectory(prefix="redis-test-")
        for attempt in range(1, START_ATTEMPTS + 1):
            self._port = _free_port()
            try:
                self._spawn()
            except ServerDied:
                if attempt == START_ATTEMPTS:
                    self.stop()
                    raise
            else:
                break
        return self.url

    def stop(self) -> None:
        """End it and remove its folder. Calling it again does nothing."""
        self._end_process(signal.SIGTERM)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def kill(self) -> None:
        """SIGKILL: the crash. Port and folder are kept for `restart()`."""
        self._running()
        self._end_process(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again on the same port and folder; one that still runs is ended in the orderly way first."""
        if self._folder is None:
            raise RuntimeError("never started, or stopped for good")
        self._end_process(signal.SIGTERM)
        self._spawn()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing, like a machine that hangs. Returns when it stands."""
        process = self._running()
        if self._paused:
            return
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT: it goes on where it stood."""
        self._running().send_signal(signal.SIGCONT)
        self._paused = False

    def log(self) -> str:
        """What the server has written, over all its restarts."""
        path = self._log_path()
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process

    def _log_path(self) -> Path:
        if self._folder is None:
            raise RuntimeError("never started, or stopped for good")
        return Path(self._folder.name) / "server.log"

    def _command(self, program: str) -> list[str]:
        appendonly = ("--appendonly", "yes", "--appendfsync", "always") if self._durable else ("--appendonly", "no")
        folder = str(self._log_path().parent)
        return [
            program,
            *("--port", str(self._port), "--bind", "127.0.0.1", "--dir", folder, "--daemonize", "no"),
            *("--save", "", "--maxmemory-policy", "noeviction", "--loglevel", "notice"),
            *appendonly,
            *self._options,
        ]

    def _spawn(self) -> None:
        program = find_program()
        if program is None:
            raise FileNotFoundError(f"{MISSING}; `sh tests/run.sh` installs one where it may")
        # Sessions of their own: Ctrl-C is for the test process, which then ends both.
        with self._log_path().open("ab") as log:
            self._process = subprocess.Popen(
                self._command(program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._paused = False
        guard = ["sh", "-c", GUARD, "guard", str(self._process.pid), str(self._log_path().parent)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_until_sync(self._answers, f"an answer from {program} on port {self._port}", START_TIMEOUT_S)
        except (WaitTimeout, ServerDied):
            self._end_process(signal.SIGKILL)
            raise

    def _answers(self) -> bool:
        """Whether our process answers: another program's server could hold the port."""
        process = self._running()
        if process.poll() is not None:
            raise ServerDied(f"the server left with code {process.returncode}; its log:\n{self.log()}")
        with redis.Redis(port=self._port, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
            try:
                return bool(client.info("server")["process_id"] == process.pid)
            except (redis.ConnectionError, redis.TimeoutError):
                return False

    def _end_process(self, sign: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(sign)
        if self._paused:
            process.send_signal(signal.SIGCONT)
            self._paused = False
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.communicate(b"ended\n", timeout=STOP_TIMEOUT_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
