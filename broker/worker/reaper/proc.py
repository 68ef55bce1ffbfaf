"""Who is below whom, by /proc (Linux), and a signal that reaches exactly the process that was seen."""

from __future__ import annotations

import os

from broker.worker.reaper.light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Process:
    """One /proc/PID/stat.

    `started` (clock ticks since boot) tells it from a later process with the same pid, `program` (where its stack
    begins, by chance at each exec) from what it was before an exec.
    """

    __slots__ = ("parent", "pid", "program", "session", "started", "state")

    def __init__(self, pid: int, fields: list[bytes]) -> None:
        self.pid = pid
        self.state = fields[0]
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.started = int(fields[19])
        self.program = int(fields[25])

    @property
    def lives(self) -> bool:
        return self.state not in b"ZX"


def look_up(pid: int) -> Process | None:
    # The name stands in brackets and may hold any character, brackets too.
    fields = read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    return Process(pid, fields) if len(fields) > 25 else None


def processes() -> Iterator[Process]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes longer to import than all of this
        process = look_up(int(name)) if name.isdigit() else None
        if process is not None:
            yield process


def descendants(root: int) -> list[Process]:
    """All below `root`, parents first: a shell is told before the command whose end would let it start the next."""
    children: dict[int, list[Process]] = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process)
    found = children.get(root, [])
    for process in found:  # grows while it is walked
        found.extend(children.get(process.pid, ()))
    return found


def of_lost_tree(session: int, mark: str) -> list[Process]:
    """What of a tree without its supervisor can still be found: by its session, and by the mark in its environment.

    Not found is what left the session *and* has no readable mark (a cleared environment, another user).
    """
    wanted = mark.encode()
    return [
        process
        for process in processes()
        if process.lives and (process.session == session or wanted in read(f"/proc/{process.pid}/environ"))
    ]


def read(path: str) -> bytes:
    """The file's content; empty where it cannot be read, which in /proc mostly means that the process has ended."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    content = b""
    try:
        while part := os.read(file, 65536):
            content += part
    except OSError:
        pass
    finally:
        os.close(file)
    return content


def send(process: Process, number: int) -> bool:
    """Signals this process and never a later one with its pid; False where it is gone or not ours to signal."""
    try:
        handle = open_handle(process.pid)
    except ProcessLookupError:
        return False
    try:
        now = look_up(process.pid)
        if now is None or now.started != process.started:
            return False
        if handle is None:
            os.kill(process.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        if handle is not None:
            os.close(handle)
    return True


def open_handle(pid: int) -> int | None:
    """A pidfd, which becomes readable when the process ends. None where the system has none, or has no more.

    Raises ProcessLookupError.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None
