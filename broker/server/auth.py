"""Who may call an operation: looked at before anything of the body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from broker.errors import Forbidden, InvalidInput
from broker.protocol.names import CANCEL_TEXT_LIMIT
from broker.server.context import context_of
from broker.server.tokens import Right, Tokens

RIGHT_FIELD = "x-required-scope"
"""Where an operation says in the OpenAPI document which scope it needs."""


class Guarded(APIRoute):
    """A route that names the scope it needs, and refuses who does not have it."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()
        right = Right((self.openapi_extra or {})[RIGHT_FIELD])  # a route without one cannot be built

        async def guarded(request: Request) -> Response:
            tokens = context_of(request).tokens
            if not tokens:
                refuse_strangers(request)
            request.state.caller = _caller(request, tokens, right)
            return await handle(request)

        return guarded


def refuse_strangers(request: Request) -> None:
    """Without tokens only this machine may call, and a web page that a browser here shows is not this machine.

    A page of another origin can send a plain POST, and one whose name was made to resolve to 127.0.0.1 anything: the
    first names its Origin, the second its own Host. Raises Forbidden.
    """
    host = request.headers.get("host", "")
    if not _is_loopback(host):
        raise Forbidden(f"Host {host!r}: without tokens allowed are localhost and loopback addresses; set up tokens")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Forbidden(f"Origin {origin!r}: without tokens no page of another origin may call; set up tokens")


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def needs(right: Right, **extra: Any) -> dict[str, Any]:
    """`openapi_extra` of an operation that needs this scope."""
    schemes: list[dict[str, list[str]]] = [{"bearer": []}, {"api_key": []}, {}]
    return {RIGHT_FIELD: right.value, "security": schemes, **extra}


def _caller(request: Request, tokens: Tokens, right: Right) -> str | None:
    if tokens:
        return tokens.check(_given(request), right)
    return _says(request)


def _given(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-api-key", "").strip() or None


def _says(request: Request) -> str | None:
    """Without tokens there is only the word of the caller, who is on this machine."""
    name = request.headers.get("x-requested-by", "").strip()
    if len(name) > CANCEL_TEXT_LIMIT:
        raise InvalidInput(f"X-Requested-By: {len(name)} characters; allowed are up to {CANCEL_TEXT_LIMIT}")
    return name or None
