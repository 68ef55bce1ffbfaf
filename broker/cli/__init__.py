"""The command `broker`. Typer and Rich are an extra: a worker host gets the script, and this module, without them."""

from __future__ import annotations

import sys

from broker.cli.loading import INTERRUPTED, loading
from broker.cli.visible import visible

INSTALL = 'the command line needs an extra: pip install "cancellation-broker[cli]"'


def main() -> None:
    """Runs the command line and leaves with its exit code; an error of ours is one line on stderr."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(INTERRUPTED)


def _run() -> int | str | None:
    try:
        with loading():
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


def _is_interrupt(error: BaseException | None) -> bool:
    """Typer makes an exit code of Ctrl-C, and says nothing."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _say(text: str) -> None:
    print(f"broker: {visible(text)}", file=sys.stderr)
