"""`broker worker list`: which processes there are."""

from __future__ import annotations

import sys

from broker.cli.options import SERVER, TIMEOUT, Json, Server, Timeout, Token


def list_workers(json: Json = False, server: Server = SERVER, token: Token = None, timeout: Timeout = TIMEOUT) -> None:
    """Lists worker processes: alive or silent, what they hold, when they were last seen.

    \b
    Example: broker worker list
    """
    from broker.cli.client import Client
    from broker.cli.pages import joined, pages
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.lists import worker_lines
    from broker.protocol.http.answers import WorkersAnswer

    with Client(server, token, timeout) as client:
        replies = list(pages(client, WorkersAnswer, "workers"))
    if json:
        show_json(joined([reply.raw for reply in replies], "workers"))
    else:
        show(worker_lines([one for reply in replies for one in reply.answer.workers], Paint.of(sys.stdout)))
