"""The command `broker demo`: its options, Ctrl-C, and what it leaves with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from typing import Annotated

import typer

from broker.cli.demo.directory import Root, find_root
from broker.cli.loading import unsearched

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(
    path: Annotated[
        str | None, typer.Argument(help="Hash every file below this directory. Default: Python's standard library.")
    ] = None,
    redis_url: Annotated[
        str, typer.Option("--redis-url", envvar="BROKER_REDIS_URL", help="Use this Redis instead of the embedded one.")
    ] = "embedded://",
    plain: Annotated[bool, typer.Option("--plain", help="Print lines, draw nothing.")] = False,
) -> None:
    """A real job over a real directory tree on three worker processes, cancelled in mid-flight. Takes about 10 s.

    Every file is hashed and nothing is written. Leaves with 0 when everything that was cancelled is proved stopped.
    """
    root = find_root(path)
    _keep_quiet()
    raise typer.Exit(asyncio.run(_run(root, redis_url, plain=plain or not _can_draw())))


async def _run(root: Root, redis_url: str, *, plain: bool) -> int:
    """The first signal ends everything in order; more of them change nothing, as that takes two seconds at most."""
    loop = asyncio.get_running_loop()
    heard: list[signal.Signals] = []
    playing = asyncio.create_task(_play(root, redis_url, plain=plain))

    def interrupted(number: signal.Signals) -> None:
        if not heard:
            playing.cancel()
        heard.append(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupted, number)
    try:
        await asyncio.wait([playing])
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # nothing is left but to leave
    if not heard:
        return playing.result()
    if not playing.cancelled() and (error := playing.exception()) is not None:
        logging.getLogger("broker.demo").info("interrupted", exc_info=error)
    with contextlib.suppress(OSError):  # after SIGHUP there may be no terminal any more
        print(f"broker: {heard[0].name}: interrupted, no worker process is left", file=sys.stderr)
    return 128 + heard[0]


async def _play(root: Root, redis_url: str, *, plain: bool) -> int:
    with unsearched():  # they load the whole worker, which no other command needs
        from broker.cli.demo.plain import PlainView
        from broker.cli.demo.story import tell

    started_at = time.monotonic()
    if plain:
        with PlainView(started_at) as lines:
            return await tell(root, redis_url, lines)
    from broker.cli.demo.live import LiveView

    with LiveView(started_at) as screen:
        return await tell(root, redis_url, screen)


def _can_draw() -> bool:
    """A terminal that can move its cursor, and whose user did not ask for less (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _keep_quiet() -> None:
    """The broker's own log lines would stand in the middle of the picture; the demo says itself what goes wrong."""
    logging.getLogger("broker").addHandler(logging.NullHandler())
