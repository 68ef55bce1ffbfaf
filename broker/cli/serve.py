"""The command `broker serve`: options, one line that says where it listens, and what it leaves with."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.loading import loading
from broker.errors import MissingExtra

INSTALL = 'the server needs an extra: pip install "cancellation-broker[server]"'
_EXTRA = ("fastapi", "starlette", "uvicorn", "pydantic_settings")

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        help="redis://…, or embedded://127.0.0.1:PORT for one inside this process. [env: BROKER_REDIS_URL]"
        " [default: embedded://]",
        show_default=False,
    ),
]
Host = Annotated[str | None, typer.Option("--host", help="[env: BROKER_HOST] [default: 127.0.0.1]")]
Port = Annotated[str | None, typer.Option("--port", help="0 takes a free one. [env: BROKER_PORT] [default: 8470]")]
TokensFile = Annotated[
    str | None,
    typer.Option("--tokens-file", help="Lines of `name scope[,scope] sha256`. [env: BROKER_TOKENS_FILE]"),
]
Namespace = Annotated[str | None, typer.Option("--namespace", help="[env: BROKER_NAMESPACE] [default: cb]")]
RedisTimeout = Annotated[
    str | None, typer.Option("--redis-timeout-s", help="[env: BROKER_REDIS_TIMEOUT_S] [default: 1.5]")
]
MaxEventStreams = Annotated[
    str | None, typer.Option("--max-event-streams", help="[env: BROKER_MAX_EVENT_STREAMS] [default: 256]")
]
StopTimeout = Annotated[str | None, typer.Option("--stop-timeout-s", help="[env: BROKER_STOP_TIMEOUT_S] [default: 10]")]


def serve(
    redis_url: RedisUrl = None,
    host: Host = None,
    port: Port = None,
    tokens_file: TokensFile = None,
    namespace: Namespace = None,
    redis_timeout_s: RedisTimeout = None,
    max_event_streams: MaxEventStreams = None,
    stop_timeout_s: StopTimeout = None,
) -> None:
    """Serves the HTTP API until Ctrl-C or SIGTERM; logs are JSON lines on stderr.

    \b
    Example: broker serve --redis-url redis://127.0.0.1:6379/0 --port 8470
    Then:    curl -X POST http://127.0.0.1:8470/api/v1/workflows/run-1/cancel-tree

    Without tokens it listens on this machine only. Any number of servers on one Redis answer the same.
    Exit codes: 0 stopped, 2 a bad setting, 6 Redis unreachable.
    """
    try:
        with loading():
            from broker.server.serve import run
            from broker.server.settings import load_settings
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _EXTRA:
            raise
        raise MissingExtra(INSTALL) from error
    settings = load_settings(
        redis_url=redis_url,
        host=host,
        port=port,
        tokens_file=tokens_file,
        namespace=namespace,
        redis_timeout_s=redis_timeout_s,
        max_event_streams=max_event_streams,
        stop_timeout_s=stop_timeout_s,
    )
    run(settings, lambda serving: print(f"broker serves on {serving.address}", flush=True))
