"""Becoming a supervisor, and the steps between its fork and the command's exec."""

from __future__ import annotations

import ctypes
import os

from broker.worker.reaper.light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.worker.reaper.request import Request

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

EINVAL = 22

SHIELDED = ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "TSTP", "TTIN", "TTOU", "XCPU")
"""Signals that must neither end nor stop the supervisor: by a handler, not SIG_IGN, since exec resets a handler."""


def prctl(option: int, value: int | bytes) -> bool:
    """Linux's call; False where there is none or it failed."""
    try:
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError, TypeError):
        return False


class Signals:
    """Lets signals wake the supervisor instead of ending it; the command gets them as the caller had them."""

    def __init__(self) -> None:
        self.asked_to_end = False
        self.woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._children_ignored = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        signal.signal(signal.SIGCHLD, self._note)
        for name in (*SHIELDED, "TERM"):
            number = getattr(signal, f"SIG{name}")
            if signal.getsignal(number) != signal.SIG_IGN:  # under nohup, the command is, too
                signal.signal(number, self._note)
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD, signal.SIGTERM])

    def _note(self, number: int, _frame: object) -> None:
        self.asked_to_end = self.asked_to_end or number == signal.SIGTERM

    def restore_in_child(self) -> None:  # pragma: no cover - as `_become`
        signal.set_wakeup_fd(-1)
        for name in ("PIPE", "XFSZ"):  # Python ignores these two, as subprocess knows
            signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)
        if self._children_ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def launch(request: Request, signals: Signals) -> tuple[int, int]:
    """Forks and executes: the command's pid, and the errno where it could not be started (0 where it was)."""
    supervisor = os.getpid()
    failure, tell_failure = os.pipe()  # a successful exec closes it
    gate, open_gate = os.pipe()
    _join(request.group)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - exec comes before coverage could write
        try:
            os.close(open_gate)
            os.read(gate, 1)
            _become(request, signals, supervisor)
        except BaseException as error:  # noqa: BLE001 - whatever it is, there must not be two supervisors
            os.write(tell_failure, b"%d" % (getattr(error, "errno", None) or EINVAL))
        finally:
            os._exit(127)
    _leave(request.group)
    for descriptor in (gate, open_gate, tell_failure):
        os.close(descriptor)
    errno = int(os.read(failure, 16) or 0)
    os.close(failure)
    return pid, errno


def _become(request: Request, signals: Signals, supervisor: int) -> None:  # pragma: no cover - as above
    """In the child: from the fork to the exec."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        return  # it was killed before this one could ask to be told
    if not request.group:
        os.setsid()
    signals.restore_in_child()
    os.execvpe(request.argv[0], list(request.argv), request.env)  # noqa: S606


def _join(group: int) -> None:
    """A command in the foreground is forked in the caller's group, and the supervisor leaves before it executes.

    For where a process of one group has its parent in another group of the same session, the kernel may hang up the
    whole group when that process ends: it takes it for a job that nobody can continue any more.
    """
    if group:
        try:
            os.setpgid(0, group)
        except PermissionError:
            return  # the caller's group has ended, so the command is started in this one


def _leave(group: int) -> None:
    if group:
        try:
            os.setsid()
        except PermissionError:
            return  # this is still the group's leader, see above


def let_go() -> None:
    """A reader of the command's output must see its end, and a file system must be free to go, while this lives on."""
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard in range(3):
        os.dup2(nothing, standard)
