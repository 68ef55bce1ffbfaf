"""`broker worker dead`: the proof that a crashed worker is gone, given by somebody who knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.options import SERVER, TIMEOUT, Json, Server, Timeout, Token
from broker.cli.settings import option, whole
from broker.errors import NotFound

if TYPE_CHECKING:
    from broker.cli.client import Client

WorkerId = Annotated[str, typer.Argument(metavar="ID", help="The id of the worker.", show_default=False)]
Incarnation = Annotated[
    str | None, option("--incarnation", "Which process of that name. Default: the one that is listed.", "NUMBER")
]
Reason = Annotated[str | None, option("--reason", "How you know that it is gone, for everyone who asks later.")]


def dead(
    worker_id: WorkerId,
    reason: Reason = None,
    incarnation: Incarnation = None,
    json: Json = False,
    server: Server = SERVER,
    token: Token = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Declares a worker process dead: what it held is settled as lost. Refused while its heart beats.

    Be sure: if it still runs, so does its work, and the report says that it does not.

    \b
    Example: broker worker dead gpu-7-3f2a --reason "node was removed"
    """
    from broker.cli.client import Client
    from broker.cli.terminal import show, show_json
    from broker.cli.visible import visible
    from broker.protocol.http.answers import DeadAnswer
    from broker.protocol.names import check_id

    check_id(worker_id, "ID")
    number = whole(incarnation, "--incarnation")
    with Client(server, token, timeout) as client:
        body: dict[str, Any] = {"incarnation": number or _listed(client, worker_id)}
        if reason is not None:
            body["reason"] = reason
        reply = client.post(DeadAnswer, "workers", worker_id, "dead", body=body)
    if json:
        show_json(reply.raw)
        return
    answer = reply.answer
    show(
        [
            f"Worker {visible(answer.worker_id)} declared dead (incarnation {answer.incarnation}):"
            " what it held will be settled as lost"
        ]
    )


def _listed(client: Client, worker_id: str) -> int:
    from broker.cli.pages import pages
    from broker.protocol.http.answers import WorkersAnswer

    for reply in pages(client, WorkersAnswer, "workers"):
        for one in reply.answer.workers:
            if one.worker_id == worker_id:
                return one.incarnation
    raise NotFound(f"worker {worker_id} is not listed: if you know its incarnation, --incarnation names it")
