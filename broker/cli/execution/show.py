"""`broker execution show`: what is known of one execution."""

from __future__ import annotations

import sys

from broker.cli.options import SERVER, TIMEOUT, ExecutionId, Json, Server, Timeout, Token


def show_execution(
    execution_id: ExecutionId,
    json: Json = False,
    server: Server = SERVER,
    token: Token = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Shows one execution: what was decided (status), what really happened (disposition), who holds it.

    \b
    Example: broker execution show leaf-1
    """
    from broker.cli.client import Client
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.execution import execution_lines
    from broker.protocol.http.answers import ExecutionAnswer
    from broker.protocol.names import check_id

    check_id(execution_id, "ID")
    with Client(server, token, timeout) as client:
        reply = client.get(ExecutionAnswer, "executions", execution_id)
    if json:
        show_json(reply.raw)
    else:
        show(execution_lines(reply.answer, Paint.of(sys.stdout)))
