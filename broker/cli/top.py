"""`broker top`: open cancels, ack lag, stragglers by cause and workers, live."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from broker.cli.options import SERVER, TIMEOUT, Json, Server, Timeout, Token
from broker.cli.settings import flag

if TYPE_CHECKING:
    from broker.cli.client import Client

REFRESH_S = 1.0
RESIZE_S = 0.2
Once = Annotated[bool, flag("--once", "Print one frame and leave; also what happens without a terminal.")]


def top(
    once: Once = False, json: Json = False, server: Server = SERVER, token: Token = None, timeout: Timeout = TIMEOUT
) -> None:
    """Shows what is still running, why, how quickly cancels are heard, and the workers; refreshed every second.

    \b
    Example: broker top
    """
    from broker.cli.client import Client
    from broker.cli.terminal import Paint, can_draw, show, show_json
    from broker.cli.view.top import top_lines
    from broker.protocol.http.overview import OverviewAnswer

    with Client(server, token, timeout) as client:
        if json:
            show_json(client.get(OverviewAnswer, "overview").raw)
        elif once or not can_draw(sys.stdout) or not sys.stdin.isatty():
            seen = client.get(OverviewAnswer, "overview").answer
            size = shutil.get_terminal_size((120, 50))
            show(top_lines(seen, client.server, Paint.of(sys.stdout), width=size.columns, height=size.lines))
        else:
            _live(client)


def _live(client: Client) -> None:
    """Draws until `q`. A server that is away is said in the frame, and asked again."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from broker.cli.terminal import Paint
    from broker.cli.view.top import top_lines
    from broker.cli.visible import visible
    from broker.errors import BrokerUnavailable
    from broker.protocol.http.overview import OverviewAnswer

    paint = Paint.of(sys.stdout)
    seen, gap = client.get(OverviewAnswer, "overview").answer, ""
    with _keys(), Live(console=Console(), screen=True, auto_refresh=False) as screen:
        while True:
            size = shutil.get_terminal_size()
            lines = top_lines(seen, client.server, paint, width=size.columns, height=size.lines - bool(gap))
            if gap:
                lines.insert(0, paint(gap[: size.columns], "red", bold=True))
            screen.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
            if _wait_or_leave():
                return
            try:
                seen, gap = client.get(OverviewAnswer, "overview").answer, ""
            except BrokerUnavailable as error:
                gap = visible(f"old: {error}")


def _wait_or_leave() -> bool:
    """True when `q` was pressed; else False after a second, or when the window has another size."""
    ends_at, size = time.monotonic() + REFRESH_S, shutil.get_terminal_size()
    while (left_s := ends_at - time.monotonic()) > 0 and shutil.get_terminal_size() == size:
        if select.select([sys.stdin], [], [], min(left_s, RESIZE_S))[0]:
            pressed = os.read(sys.stdin.fileno(), 64)
            if not pressed or b"q" in pressed.lower():
                return True
    return False


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one and are not shown; Ctrl-C stays what it is."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
