"""Options and arguments that several client commands share, ready for their signatures."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.settings import flag, option

SERVER = "http://127.0.0.1:8470"
TIMEOUT = "30"

Server = Annotated[str, option("--server", "The server to talk to.", "URL")]
Token = Annotated[
    str | None,
    option(
        "--token", "Who you are. `-` reads it from standard input: what stands in a command others can see.", "TEXT"
    ),
]
Timeout = Annotated[str, option("--timeout", "How long the server may take to answer.", "SECONDS")]
Json = Annotated[bool, flag("--json", "Print the server's answer as one line of JSON.")]

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of the run.", show_default=False)]
ExecutionId = Annotated[str, typer.Argument(metavar="ID", help="The id of the execution.", show_default=False)]
CancelId = Annotated[
    str | None, option("--cancel-id", "Which cancel, where a run has several. Default: its widest.", "ID")
]
