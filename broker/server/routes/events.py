"""Events of control planes that cannot XADD: the same shapes as on the stream, as a JSON array or as NDJSON."""

from __future__ import annotations

import json

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from broker.errors import InvalidInput, UnsupportedMediaType
from broker.protocol.http.answers import EventsAnswer
from broker.protocol.http.requests import EXECUTIONS_LIMIT
from broker.server.answers import events_answer, respond
from broker.server.auth import Guarded, needs
from broker.server.context import broker_of
from broker.server.documents import EVENTS, EVENTS_BODY, documented
from broker.server.tokens import Right

router = APIRouter(prefix="/api/v1", route_class=Guarded)

_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")


@router.post(
    "/events",
    tags=["register"],
    summary="Publish control-plane events",
    responses=documented(EventsAnswer, EVENTS, (400, 413, 415)),
    openapi_extra=needs(Right.PUBLISH, **EVENTS_BODY),
)
async def publish(request: Request) -> Response:
    """Up to 10,000 at once. What is accepted is durable in the stream; what is refused is listed with its index."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    events = _parse(await request.body(), kind)
    if len(events) > EXECUTIONS_LIMIT:
        raise InvalidInput(f"{len(events)} events: allowed are up to {EXECUTIONS_LIMIT} at once")
    return respond(events_answer(await broker_of(request).publish_events(events)))


def _parse(body: bytes, kind: str) -> list[object]:
    """A line that is no JSON is refused with the whole body: nothing is published then."""
    try:
        if kind in _LINES:
            return [json.loads(line) for line in body.splitlines() if line.strip()]
        if kind == "application/json":
            parsed = json.loads(body)
            if isinstance(parsed, list):
                return parsed
            raise InvalidInput("the body is no array of events; one event a line goes as application/x-ndjson")
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"the body is no JSON that can be read: {str(error)[:100]}") from error
    raise UnsupportedMediaType(f"Content-Type {kind[:100]!r}: allowed are application/json and application/x-ndjson")
