"""`broker events dead`: the refused events, each with its reason."""

from __future__ import annotations

import sys

from broker.cli.options import SERVER, TIMEOUT, Json, Server, Timeout, Token


def dead(json: Json = False, server: Server = SERVER, token: Token = None, timeout: Timeout = TIMEOUT) -> None:
    """Lists events that could not be applied, oldest first: why, and what they were. About 10,000 are kept.

    \b
    Example: broker events dead
    """
    from broker.cli.client import Client
    from broker.cli.pages import joined, pages
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.lists import dead_event_lines
    from broker.protocol.http.answers import DeadEventsAnswer

    with Client(server, token, timeout) as client:
        replies = list(pages(client, DeadEventsAnswer, "events", "dead"))
    if json:
        show_json(joined([reply.raw for reply in replies], "events"))
    else:
        show(dead_event_lines([one for reply in replies for one in reply.answer.events], Paint.of(sys.stdout)))
