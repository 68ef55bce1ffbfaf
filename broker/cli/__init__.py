"""The command `broker`. Typer and Rich are an extra: a worker host gets the script, and this module, without them."""

from __future__ import annotations

import sys

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
    from broker.errors import BrokerError

    try:
        from broker.cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("typer", "rich"):
            raise
        _say(INSTALL)
        return 1
    try:
        app(prog_name="broker")
    except BrokerError as error:
        _say(str(error))
        return error.exit_code
    except SystemExit as done:
        return done.code
    return 0


def _say(text: str) -> None:
    print(f"broker: {text}", file=sys.stderr)
