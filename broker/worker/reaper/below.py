"""What is below the command: whom to signal, and when nothing is left of it."""

from __future__ import annotations

import os

from broker.worker.reaper.light import signal
from broker.worker.reaper.proc import descendants, send


class Tree:
    """Everything below this process, which is a subreaper (Linux)."""

    proof = "tree"

    def __init__(self, main: int) -> None:
        self._root = os.getpid()
        self._main = main
        self._told: dict[tuple[int, int], int] = {}
        self.killed: set[int] = set()

    def tell(self, *, orphans_only: bool = False) -> None:
        """SIGTERM, once each. Later only to those that lost their parent: what a clean-up starts must not be hit.

        An orphan that has become another program since is told again: what a shell forks has the shell's handler until
        its exec, and a SIGTERM in between is lost.
        """
        for process in descendants(self._root):
            who = (process.pid, process.started)
            if orphans_only and (process.parent != self._root or process.pid == self._main):
                continue
            if self._told.get(who) != process.program:
                self._told[who] = process.program
                send(process, signal.SIGTERM)
                if process.state == b"T":
                    send(process, signal.SIGCONT)  # stopped, it would hear the SIGTERM when it is too late

    def kill(self) -> None:
        for process in descendants(self._root):
            if send(process, signal.SIGKILL) and process.lives:
                self.killed.add(process.pid)

    def count(self) -> int:
        return sum(process.lives for process in descendants(self._root))

    def reaped(self, pid: int, status: int) -> None:
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            self.killed.discard(pid)  # it had ended before the SIGKILL reached it

    def is_gone(self) -> bool:
        """Asked when this process has no child, and then there is nothing below it."""
        return True


class Group:
    """The weaker form for other systems: what leaves the process group is neither seen nor ended."""

    proof = "group"

    def __init__(self, group: int) -> None:
        self._group = group
        self.killed: set[int] = set()

    def tell(self, *, orphans_only: bool = False) -> None:
        if not orphans_only:
            self._send(signal.SIGTERM)
            self._send(signal.SIGCONT)

    def kill(self) -> None:
        if self._send(signal.SIGKILL):
            self.killed.add(self._group)

    def count(self) -> int:
        return int(self._send(0))

    def reaped(self, pid: int, status: int) -> None:
        """Only the command itself is reaped here, and the group may outlive it."""

    def is_gone(self) -> bool:
        return not self._send(0)

    def _send(self, number: int) -> bool:
        try:
            os.killpg(self._group, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # macOS says so of a group of zombies; what belongs to another user is still there, too
        return True
