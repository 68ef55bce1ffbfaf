"""Who may call an operation: looked at before anything of the body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from broker.errors import InvalidInput
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
            request.state.caller = _caller(request, context_of(request).tokens, right)
            return await handle(request)

        return guarded


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
