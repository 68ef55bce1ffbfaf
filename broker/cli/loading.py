"""Around the imports of the command line, which take longer than most of its commands."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Both, for a command that has not begun."""
    with quick_interrupt(), unsearched():
        yield


@contextlib.contextmanager
def unsearched() -> Iterator[None]:
    """The garbage collector does not search modules, now or later: they stay to the end.

    Searching them, once more when the process leaves, is a third of the processor time of a short command.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def quick_interrupt() -> Iterator[None]:
    """Ctrl-C leaves at once, without unwinding: imports swallow a KeyboardInterrupt, or have Python die of it."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # a parent that has it ignored means it
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: object) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"broker: interrupted\n")
    os._exit(INTERRUPTED)
