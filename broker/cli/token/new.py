"""`broker token new`: a token for a server's file of tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.options import Json
from broker.cli.settings import option
from broker.errors import InvalidInput

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Whose it is: stands as `requested_by` in reports.", show_default=False)
]
Scopes = Annotated[
    str, option("--scope", "What it may do: observe, publish (register, start), cancel; with commas.", "SCOPES")
]


def new(name: Name, scope: Scopes = "observe", json: Json = False) -> None:
    """Makes a token, and prints it this one time: no server keeps more of it than its SHA-256.

    \b
    Example: broker token new ops --scope observe,publish,cancel
    """
    from broker.cli.terminal import show, show_json
    from broker.server.tokens import new_token

    words = [word.strip() for word in scope.split(",") if word.strip()]
    try:
        token, line = new_token(name, words)
    except InvalidInput as error:
        raise InvalidInput(f"NAME or --scope (BROKER_SCOPE): {error}") from error
    if json:
        show_json({"name": name, "token": token, "line": line})
        return
    show(
        [
            f"Token of {name}, shown only now (for BROKER_TOKEN):",
            f"  {token}",
            "Line for the server's file (--tokens-file or BROKER_TOKENS_FILE):",
            f"  {line}",
        ]
    )
