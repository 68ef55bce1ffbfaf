"""`broker run watch`: a cancel, live until it is settled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.options import SERVER, TIMEOUT, CancelId, Json, RunId, Server, Timeout, Token
from broker.cli.settings import option, seconds

if TYPE_CHECKING:
    from broker.cli.waiting import Report

STILL_RUNNING = 3

Wait = Annotated[
    str | None, option("--wait", "Watch no longer than this; leave with 3 when it is not settled.", "SECONDS")
]


def watch(
    run_id: RunId,
    cancel_id: CancelId = None,
    wait: Wait = None,
    json: Json = False,
    server: Server = SERVER,
    token: Token = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Watches a cancel until everything has stopped: live on a terminal, else a line for each change.

    \b
    Example: broker run watch nightly
    """
    from broker.cli.client import Client
    from broker.cli.news import News
    from broker.cli.run.where import report_place
    from broker.cli.terminal import Paint, can_draw, say, show
    from broker.cli.view.report import report_lines
    from broker.cli.waiting import follow_report

    path, query = report_place(run_id, cancel_id)
    wait_s = seconds(wait, "--wait")
    live = can_draw(sys.stdout) and not json
    with Client(server, token, timeout) as client, News(client, run_id) as news:
        follow = partial(follow_report, client, path, query, wait_s=wait_s, live=live, on_gap=say, news=news)
        last = _draw(follow) if live else follow(on_report=_teller(as_json=json))
    if not json:
        show(report_lines(last.answer, Paint.of(sys.stdout)))
    if last.answer.state != "settled":
        raise typer.Exit(STILL_RUNNING)


def _teller(*, as_json: bool) -> Callable[[Report], None]:
    """Prints a line for each report that says something new."""
    from broker.cli.terminal import show, show_json
    from broker.cli.view.report import progress_text

    said: list[str] = []

    def tell(report: Report) -> None:
        text = progress_text(report.answer)
        if said[-1:] == [text]:
            return
        said[:] = [text]
        if as_json:
            show_json(report.raw)
        else:
            show([text])

    return tell


def _draw(follow: Callable[..., Report]) -> Report:
    """The report, redrawn in its place, and gone at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from broker.cli.terminal import Paint
    from broker.cli.view.report import report_lines

    paint = Paint.of(sys.stdout)
    with Live(console=Console(), transient=True, auto_refresh=False) as screen:

        def draw(report: Report) -> None:
            screen.update(Text.from_ansi("\n".join(report_lines(report.answer, paint))), refresh=True)

        return follow(on_report=draw)
