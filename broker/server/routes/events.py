"""Events of control planes that cannot XADD: the same shapes as on the stream, as a JSON array or as NDJSON."""

from __future__ import annotations

import json

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from broker.errors import InvalidInput, NotFound, UnsupportedMediaType
from broker.protocol.http.answers import (
    DeadEventsAnswer,
    EventsAnswer,
    NotReplayedAnswer,
    ReplayAnswer,
    ReplayedEventAnswer,
)
from broker.protocol.http.requests import EXECUTIONS_LIMIT, PAGE_LIMIT, ReplayRequest
from broker.server.answers import dead_events_answer, events_answer, respond
from broker.server.auth import Guarded, needs
from broker.server.context import broker_of
from broker.server.documents import DEAD_EVENTS, EVENTS, EVENTS_BODY, REPLAYED, documented
from broker.server.paging import Limit, PositionCursor
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


@router.get(
    "/events/dead",
    tags=["report"],
    summary="Events that could not be applied, and why",
    responses=documented(DeadEventsAnswer, DEAD_EVENTS, (400,)),
    openapi_extra=needs(Right.OBSERVE),
)
async def dead(request: Request, cursor: PositionCursor = None, limit: Limit = PAGE_LIMIT) -> Response:
    """Oldest first; about 10,000 are kept."""
    return respond(dead_events_answer(await broker_of(request).dead_events(cursor, limit)))


@router.post(
    "/events/replay",
    tags=["register"],
    summary="Put refused events back on the stream",
    responses=documented(ReplayAnswer, REPLAYED, (400, 413, 415)),
    openapi_extra=needs(Right.PUBLISH),
)
async def replay(request: Request, body: ReplayRequest) -> Response:
    """One after the other, in this order. One that is refused again is listed again, with a new id."""
    broker, answer = broker_of(request), ReplayAnswer()
    for dead_id in body.ids:
        try:
            entry_ids = await broker.replay_events([dead_id])
        except (InvalidInput, NotFound) as error:
            answer.refused.append(NotReplayedAnswer(dead_id=dead_id, error=error.code, message=str(error)))
        else:
            answer.replayed.append(ReplayedEventAnswer(dead_id=dead_id, entry_id=entry_ids[dead_id]))
    return respond(answer)


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
