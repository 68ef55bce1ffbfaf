"""The caller's end of one supervisor: starts the program in `reaper/`, talks to it, and notices its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT
from typing import IO, Any

from broker.worker import reaper
from broker.worker.reaper.proc import open_handle

Stream = int | IO[Any] | None
Message = dict[str, Any]

INTERPRETER_FLAGS = ("-I", "-S")
PROGRAM = Path(reaper.__path__[0]).resolve() / "__main__.py"

REAP_PAUSE_S = 0.001
"""Where there is no pidfd: its channel ends a moment before the process does."""


class SupervisorLink:
    """One supervisor, watched by the running event loop: by its channel, and by a pidfd where there are any.

    `on_message` gets each message; then, once, `on_end` is called when it has ended and been reaped, and everything it
    had to say was heard.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        channel: socket.socket,
        on_message: Callable[[Message], None],
        on_end: Callable[[], None],
    ) -> None:
        self._process, self._channel, self._on_message, self._on_end = process, channel, on_message, on_end
        self._loop = asyncio.get_running_loop()
        self._inbox = b""
        self._over = False
        # A child that the caller forked may hold a copy of the other end, so the channel's end alone is no sure sign.
        self._handle = open_handle(process.pid)
        self._loop.add_reader(channel, self._hear)
        if self._handle is not None:
            self._loop.add_reader(self._handle, self._reap)

    async def send_request(self, request: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # it has ended, and `on_end` will be called
            await self._loop.sock_sendall(self._channel, request)

    def send(self, line: str) -> None:
        if self._over:
            return
        try:
            self._process.send_signal(SIGCONT)  # should somebody have stopped it, it would not hear the rest
            self._channel.send(line.encode())
        except OSError:
            pass  # it has ended and `on_end` will be called, or thousands of the same commands lie before it

    def hang_up(self) -> None:
        """It takes this for the caller's end, whether it had the whole request or not."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def _hear(self) -> None:
        while not self._over:
            try:
                data = self._channel.recv(4096)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._loop.remove_reader(self._channel)
                if self._handle is None:
                    self._reap()
                return
            *lines, self._inbox = (self._inbox + data).split(b"\n")
            for line in lines:
                self._on_message(json.loads(line))

    def _reap(self) -> None:
        if self._over:
            return
        if self._process.poll() is None:
            self._loop.call_later(REAP_PAUSE_S, self._reap)
            return
        if self._handle is not None:
            self._hear()
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
        self._over = True
        self._loop.remove_reader(self._channel)
        self._channel.close()
        self._on_end()


def spawn_supervisor(
    cwd: str | os.PathLike[str] | None, streams: tuple[Stream, Stream, Stream], *, own_session: bool
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts the program with the command's streams and directory. Raises OSError as subprocess does."""
    if not sys.executable:
        raise RuntimeError("a process tree needs a Python to run its supervisor, and sys.executable names none")
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        # Above the standard streams, which are the command's: a daemon may have closed its own.
        channel = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        process = subprocess.Popen(
            [sys.executable, *INTERPRETER_FLAGS, str(PROGRAM), str(channel), str(os.getpid())],
            cwd=cwd,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            pass_fds=(channel,),
            start_new_session=own_session,
            process_group=None if own_session else 0,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        os.close(channel)
    return process, ours
