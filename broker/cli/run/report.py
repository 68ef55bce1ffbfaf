"""`broker run report`: what became of a cancel."""

from __future__ import annotations

import sys

from broker.cli.options import SERVER, TIMEOUT, CancelId, Json, RunId, Server, Timeout, Token


def report(
    run_id: RunId,
    cancel_id: CancelId = None,
    json: Json = False,
    server: Server = SERVER,
    token: Token = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Reports a cancel: what was decided, how everything ended, and who is still running, with the likely cause.

    \b
    Example: broker run report nightly
    """
    from broker.cli.client import Client
    from broker.cli.run.where import report_place
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.report import report_lines
    from broker.protocol.http.answers import ReportAnswer

    path, query = report_place(run_id, cancel_id)
    with Client(server, token, timeout) as client:
        reply = client.get_at(ReportAnswer, path, query)
    if json:
        show_json(reply.raw)
    else:
        show(report_lines(reply.answer, Paint.of(sys.stdout)))
