"""`broker run log`: what was decided about a run, when, by whom."""

from __future__ import annotations

import sys

from broker.cli.options import SERVER, TIMEOUT, Json, RunId, Server, Timeout, Token


def log(
    run_id: RunId,
    json: Json = False,
    server: Server = SERVER,
    token: Token = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Prints a run's log, oldest first: what was decided, when, by whom. About the last 1,000 entries are kept.

    \b
    Example: broker run log nightly
    """
    from broker.cli.client import Client
    from broker.cli.pages import joined, pages
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.lists import log_lines
    from broker.protocol.http.answers import AuditAnswer
    from broker.protocol.names import check_id

    check_id(run_id, "RUN")
    with Client(server, token, timeout) as client:
        replies = list(pages(client, AuditAnswer, "runs", run_id, "log"))
    if json:
        show_json(joined([reply.raw for reply in replies], "entries"))
    else:
        show(log_lines([entry for reply in replies for entry in reply.answer.entries], Paint.of(sys.stdout)))
