"""The supervisor's loop: it waits for the command, the caller and signals, and does not poll while the command runs."""

from __future__ import annotations

import os
import select
import time

from broker.worker.reaper.below import Group, Tree
from broker.worker.reaper.launch import PR_SET_CHILD_SUBREAPER, PR_SET_NAME, Signals, launch, let_go, prctl
from broker.worker.reaper.proc import look_up, open_handle
from broker.worker.reaper.request import Request, read_request

ORPHAN_GRACE_S = 2.0
"""From SIGTERM to SIGKILL at most, when the caller is gone: nobody waits for a long clean-up any more."""

LINGER_S = 0.2
"""What outlives the command may end by itself within this time: a `tee` that has yet to write what it read."""

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.25

SCAN_SHARE = 10
"""Between two looks at /proc pass at least this many times what a look takes, so that a full host is spared."""

CALLER_CHECK_S = 1.0
"""Only where there is no pidfd, and then only for a caller whose end of the channel was inherited by a fork of it."""

NEVER = float("inf")


class Supervisor:
    """One command and everything below it, from its start until nothing of it is left."""

    def __init__(self, channel: int, caller: int, signals: Signals, caller_handle: int | None) -> None:
        self._channel, self._caller, self._signals, self._caller_handle = channel, caller, signals, caller_handle
        self._inbox = b""
        self._caller_gone = self._exited = self._ending = self._killing = False
        self._left = 0
        self._act_at = self._kill_at = NEVER
        self._pause_s = FIRST_PAUSE_S
        self._poll = select.poll()
        for handle in (signals.woken, channel, caller_handle):
            if handle is not None:
                self._poll.register(handle, select.POLLIN)

    def run(self, request: Request) -> None:
        whole_tree = request.whole_tree and prctl(PR_SET_CHILD_SUBREAPER, 1) and look_up(os.getpid()) is not None
        if not whole_tree:
            request.group = 0  # the caller's group must not be signalled
        self._main, errno = launch(request, self._signals)
        if errno:
            os.waitpid(self._main, 0)
            self._say(f'{{"failed": {errno}}}')
            return
        self._grace_s = request.grace_s
        self._below = Tree(self._main) if whole_tree else Group(self._main)
        let_go()
        self._say(f'{{"started": {self._main}}}')
        try:
            while not self._reap():
                self._listen()
                self._act(time.monotonic())
        except BaseException:
            self._below.kill()  # without its supervisor nothing may live on
            raise
        self._say(f'{{"gone": "{self._below.proof}", "left": {self._left}, "killed": {len(self._below.killed)}}}')

    def _reap(self) -> bool:
        """Takes in whatever has ended; True when nothing is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self._below.is_gone()
            if pid == 0:
                return False
            self._below.reaped(pid, status)
            if pid == self._main and not self._exited:
                self._exited = True
                self._say(f'{{"exited": {os.waitstatus_to_exitcode(status)}}}')
                self._act_at = min(self._act_at, time.monotonic() + LINGER_S)

    def _listen(self) -> None:
        """Waits until something has happened or is due, and hears what it is."""
        due = min(self._act_at, self._kill_at)
        if self._caller_handle is None and not self._caller_gone:
            due = min(due, time.monotonic() + CALLER_CHECK_S)
        wait_ms = None if due == NEVER else max(0.0, (due - time.monotonic()) * 1000 + 1)
        for handle, _ in self._poll.poll(wait_ms):
            if handle == self._signals.woken:
                os.read(handle, 4096)
            elif handle == self._channel:
                self._obey()
            else:
                self._lose_caller()
        if self._caller_handle is None and not is_child_of(self._caller):
            self._lose_caller()
        if self._signals.asked_to_end:
            self._signals.asked_to_end = False
            self._end(self._grace_s)

    def _obey(self) -> None:
        try:
            data = os.read(self._channel, 4096)
        except ConnectionError:
            data = b""
        if not data:
            self._lose_caller()
            return
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        for line in lines:
            verb, _, seconds = line.partition(b" ")
            if verb == b"term":
                self._end(float(seconds))
            else:
                self._ending = True
                self._kill_within(0.0)

    def _lose_caller(self) -> None:
        if self._caller_gone:
            return
        self._caller_gone = True
        self._poll.unregister(self._channel)
        if self._caller_handle is not None:
            self._poll.unregister(self._caller_handle)
        self._end(min(self._grace_s, ORPHAN_GRACE_S))

    def _end(self, grace_s: float) -> None:
        """SIGTERM to everything, once; SIGKILL after the shortest grace that was asked for."""
        self._kill_within(grace_s)
        if not self._ending:
            self._ending = True
            self._act_at = time.monotonic() + FIRST_PAUSE_S
            self._below.tell()

    def _kill_within(self, grace_s: float) -> None:
        if not self._killing:
            self._kill_at = min(self._kill_at, time.monotonic() + grace_s)

    def _act(self, now: float) -> None:
        """What is due: telling those that outlived the command, telling orphans, killing."""
        if not self._ending and now >= self._act_at:
            self._left = self._below.count()
            self._end(self._grace_s)
            return
        if now >= self._kill_at:
            self._killing, self._kill_at = True, NEVER
            self._act_at, self._pause_s = now, FIRST_PAUSE_S
        if now < self._act_at:
            return
        if self._killing:
            self._below.kill()
        else:
            self._below.tell(orphans_only=True)
        after = time.monotonic()
        self._act_at = after + max(self._pause_s, SCAN_SHARE * (after - now))
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _say(self, message: str) -> None:
        try:  # noqa: SIM105 - contextlib takes long to import
            os.write(self._channel, message.encode() + b"\n")
        except OSError:
            pass  # the caller is gone, which `_listen` hears as well


def is_child_of(caller: int) -> bool:
    """0 is a parent outside of this process's pid namespace: of that one only the channel's end can tell."""
    return os.getppid() in (caller, 0)


def main(channel: int, caller: int) -> None:
    os.set_inheritable(channel, False)
    signals = Signals()
    prctl(PR_SET_NAME, b"broker-reaper")
    try:
        caller_handle = open_handle(caller)
    except ProcessLookupError:
        caller_handle = None
    if not is_child_of(caller):
        return  # it ended before anything was started
    request = read_request(channel)
    if request is not None:
        Supervisor(channel, caller, signals, caller_handle).run(request)
