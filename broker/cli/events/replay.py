"""`broker events replay`: refused events once more, when what was wrong is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.options import SERVER, TIMEOUT, Json, Server, Timeout, Token
from broker.cli.settings import flag
from broker.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from broker.cli.client import Client

DeadIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Ids of `broker events dead`.", show_default=False),
]
Everything = Annotated[bool, flag("--all", "Everything that is listed now and was kept whole.")]


def replay(
    dead_ids: DeadIds = None,
    everything: Everything = False,
    json: Json = False,
    server: Server = SERVER,
    token: Token = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Puts refused events back on the stream, in this order. One that is refused again is listed again.

    \b
    Example: broker events replay 1795342312489-0

    Exit codes: 0 done, 1 some were not replayed, 4 none of them is there.
    """
    from broker.cli.client import Client
    from broker.cli.terminal import show, show_json
    from broker.cli.view.lists import replay_lines
    from broker.protocol.http.answers import ReplayAnswer

    if bool(dead_ids) == everything:
        raise InvalidInput("broker events replay: allowed are ids, or --all")
    raw: dict[str, Any] = {"replayed": [], "refused": []}
    with Client(server, token, timeout) as client:
        for ids in _groups(dead_ids or _listed(client)):
            reply = client.post(ReplayAnswer, "events", "replay", body={"ids": ids})
            for field in raw:
                raw[field] += reply.raw.get(field, [])
    answer = ReplayAnswer.model_validate(raw)
    if json:
        show_json(raw)
    else:
        show(replay_lines(answer))
    if answer.refused:
        missing = not answer.replayed and all(one.error == NotFound.code for one in answer.refused)
        raise typer.Exit(NotFound.exit_code if missing else 1)


def _listed(client: Client) -> list[str]:
    """Read to its end before the first is replayed: what is refused again comes back with a new id."""
    from broker.cli.pages import pages
    from broker.protocol.http.answers import DeadEventsAnswer

    listed = (one for reply in pages(client, DeadEventsAnswer, "events", "dead") for one in reply.answer.events)
    return [one.dead_id for one in listed if not one.cut]


def _groups(ids: list[str]) -> list[list[str]]:
    from broker.protocol.http.requests import REPLAY_LIMIT

    return [ids[at : at + REPLAY_LIMIT] for at in range(0, len(ids), REPLAY_LIMIT)]
