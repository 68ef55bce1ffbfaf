"""Around every request: its id, its line in the access log, its path, the limit of its body."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.errors import BodyTooLarge
from broker.observe.events import REQUEST, REQUEST_CRASHED
from broker.observe.log import get_logger
from broker.protocol.http.requests import BODY_LIMIT
from broker.server.problems import unexpected

log = get_logger("broker.access")

REQUEST_ID_HEADER = b"x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_LOGGED = 200
_UNRESERVED = "-._~:@!$&'()*+,;="


class SegmentConvertor(Convertor[str]):
    """`{name:id}` in a path: one segment, decoded after the routing, so that an encoded slash stays inside it."""

    regex = "[^/]*"

    def convert(self, value: str) -> str:
        return unquote(value, errors="replace")

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


register_url_convertor("id", SegmentConvertor())


class Access:
    """Gives every request an id, and one line in the log when it is over; nothing raised inside gets out of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, request_id, answered = time.monotonic(), _request_id(scope), _Answered(send)
        answered.headers = [(REQUEST_ID_HEADER, request_id.encode())]
        scope["path"] = _encoded_path(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        try:
            await self._app(scope, _limited(scope, receive), answered.send)
        except Exception as error:
            log.error(REQUEST_CRASHED, request_id=request_id, exc_info=error)
            if answered.status is None:
                await unexpected()(scope, receive, answered.send)
        finally:
            route = getattr(scope.get("route"), "path_format", None) or "unknown"
            seconds, status = time.monotonic() - began, answered.status or 499
            scope["app"].state.context.traffic.note(route, scope["method"], status, seconds)
            log.info(
                REQUEST,
                request_id=request_id,
                method=scope["method"],
                route=route,
                params={name: str(value)[:_LOGGED] for name, value in (scope.get("path_params") or {}).items()},
                status=status,
                duration_ms=round(seconds * 1000, 3),
                caller=scope["state"].get("caller"),
            )


class _Answered:
    """Passes an answer on, and remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.headers]
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """The caller's, if it is one, else a fresh one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER and _REQUEST_ID.fullmatch(text := value.decode("latin-1")):
            return str(text)
    return secrets.token_hex(8)


def _encoded_path(scope: MutableMapping[str, Any]) -> str:
    """The path as it came, its encoding made uniform: what is decoded before routing can no longer be told apart."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    segments = raw.partition(b"?")[0].split(b"/")
    return "/".join(quote(unquote_to_bytes(segment), safe=_UNRESERVED) for segment in segments)


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Reads no more than the limit, whatever the Content-Length says and also without one."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    left = -1 if declared.isdigit() and int(declared) > BODY_LIMIT else BODY_LIMIT

    async def limited() -> Message:
        nonlocal left
        if left < 0:
            raise _too_large()
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise _too_large()
        return message

    return limited


def _too_large() -> HTTPException:
    """An error that the framework lets through, with ours as its cause."""
    error = HTTPException(413)
    error.__cause__ = BodyTooLarge(f"the body is too large: allowed are up to {BODY_LIMIT} bytes")
    return error
