"""`broker cancellations`: the operators' list."""

from __future__ import annotations

import sys
from typing import Annotated

from broker.cli.options import SERVER, TIMEOUT, Json, Server, Timeout, Token
from broker.cli.settings import one_of, option

STATES = ("open", "settled", "all")

State = Annotated[str, option("--state", "Which: open, settled or all.", "STATE")]


def cancellations(
    state: State = "open",
    json: Json = False,
    server: Server = SERVER,
    token: Token = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Lists cancels that are not over: what is outstanding, for how long, and why.

    \b
    Example: broker cancellations
    """
    from broker.cli.client import Client
    from broker.cli.pages import joined, pages
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.lists import cancellation_lines
    from broker.protocol.http.answers import CancellationsAnswer

    query: dict[str, str | int] = {"state": one_of(state, "--state", STATES) or ""}
    with Client(server, token, timeout) as client:
        replies = list(pages(client, CancellationsAnswer, "cancellations", query=query))
    if json:
        show_json(joined([reply.raw for reply in replies], "cancellations"))
    else:
        listed = [one for reply in replies for one in reply.answer.cancellations]
        show(cancellation_lines(listed, state, Paint.of(sys.stdout)))
