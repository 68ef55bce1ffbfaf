"""The command `broker`. Typer and Rich are an extra: a worker host gets the script, and this module, without them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from broker.cli.visible import visible

INSTALL = 'the command line needs an extra: pip install "cancellation-broker[cli]"'
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


def main() -> None:
    """Runs the command line and leaves with its exit code; an error of ours is one line on stderr."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(INTERRUPTED)


def _run() -> int | str | None:
    try:
        with quick_interrupt():
            from broker.cli.app import app
            from broker.errors import BrokerError
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("typer", "rich", "httpx"):
            raise
        _say(INSTALL)
        return 1
    try:
        app(prog_name="broker")
    except BrokerError as error:
        _say(str(error))
        return error.exit_code
    except SystemExit as done:
        if _is_interrupt(done):
            raise KeyboardInterrupt from done
        return done.code
    return 0


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


def _is_interrupt(error: BaseException | None) -> bool:
    """Typer makes an exit code of Ctrl-C, and says nothing."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _leave(*_: object) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"broker: interrupted\n")
    os._exit(INTERRUPTED)


def _say(text: str) -> None:
    print(f"broker: {visible(text)}", file=sys.stderr)
