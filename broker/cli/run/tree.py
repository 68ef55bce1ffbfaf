"""`broker run tree`: the picture of a run."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from broker.cli.options import SERVER, TIMEOUT, Json, RunId, Server, Timeout, Token
from broker.cli.settings import flag

SHOWN = 2_000

All = Annotated[bool, flag("--all", f"Draw every execution, not only the {SHOWN:,} that matter most.")]


def tree(
    run_id: RunId,
    everything: All = False,
    json: Json = False,
    server: Server = SERVER,
    token: Token = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Draws a run as a tree, on both axes: what was decided, and what really happened.

    \b
    Example: broker run tree nightly
    """
    from broker.cli.client import Client
    from broker.cli.pages import joined
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.tree import tree_lines
    from broker.protocol.http.answers import RunAnswer
    from broker.protocol.names import check_id

    check_id(run_id, "RUN")
    with Client(server, token, timeout) as client:
        answers, raws = _read(client, run_id, keep_raw=json)
    if json:
        show_json(joined(raws, "nodes"))
        return
    nodes = [node for answer in answers for node in answer.nodes]
    whole: RunAnswer = answers[-1].model_copy(update={"nodes": nodes, "run_id": run_id})
    show(tree_lines(whole, Paint.of(sys.stdout), at_most=None if everything else SHOWN))


def _read(client: Any, run_id: str, *, keep_raw: bool) -> tuple[list[Any], list[dict[str, Any]]]:
    """Every page of the run, with a line of progress: a big one takes a while."""
    from broker.cli.pages import pages
    from broker.cli.terminal import progress
    from broker.protocol.http.answers import RunAnswer
    from broker.protocol.http.requests import PAGE_LIMIT

    answers: list[RunAnswer] = []
    raws: list[dict[str, Any]] = []
    with progress() as line:
        for reply in pages(
            client, RunAnswer, "runs", run_id, on_page=lambda page: line(f"read {page * PAGE_LIMIT:,} executions")
        ):
            answers.append(reply.answer)
            if keep_raw:
                raws.append(reply.raw)
    return answers, raws
