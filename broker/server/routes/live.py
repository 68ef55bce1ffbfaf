"""What happens in a run, as it happens: Server-Sent Events."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from broker.cancel.live.events import Place
from broker.cancel.live.stream import RunStream
from broker.protocol.http.answers import ErrorAnswer
from broker.protocol.http.live import SnapshotEvent
from broker.protocol.names import check_id
from broker.server.auth import Guarded, needs
from broker.server.context import broker_of, context_of
from broker.server.documents import documented
from broker.server.presence import ClientGone, while_present
from broker.server.sse import MEDIA_TYPE
from broker.server.tokens import Right

router = APIRouter(prefix="/api/v1", route_class=Guarded)

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=80, description="`id` of the last event that was read; 0: everything"),
]
Until = Annotated[
    Literal["settled"] | None, Query(description="the stream ends when every cancel of the run is settled")
]

_EXAMPLE = (
    'id: 1767323045000006-1767323045000-0\nevent: snapshot\ndata: {"run_id":"run-1","why":"start",'
    '"at":"2026-01-02T03:04:05.000006Z","operations":[],"dispositions":{},"outstanding":0}\n\n'
    'id: 1767323046000106-1767323045000-0\nevent: ack\ndata: {"execution_id":"leaf-1","disposition":"stopped",'
    '"at":"2026-01-02T03:04:06.000106Z"}\n\n'
)


def _documented() -> dict[int | str, dict[str, Any]]:
    answers = documented(SnapshotEvent, {}, (400, 404))
    schema = {"type": "string", "description": "events snapshot, ack, operation, audit, settled"}
    answers[200] = {
        "description": "Events until the client leaves, the server stops, or Redis is away: then resume",
        "content": {MEDIA_TYPE: {"schema": schema, "example": _EXAMPLE}},
    }
    answers[503] = {
        "model": ErrorAnswer,
        "description": "Redis is away, or this server has as many streams as it may; try again",
        "content": {"application/json": {"example": {"error": "too_many_streams", "message": "256 are open here"}}},
    }
    return answers


@router.get(
    "/runs/{run_id:id}/events",
    tags=["report"],
    summary="What happens in a run, as it happens",
    responses=_documented(),
    response_class=Response,
    openapi_extra=needs(Right.OBSERVE),
)
async def run_events(request: Request, run_id: str, last_event_id: LastEventId = None, until: Until = None) -> Response:
    """Server-Sent Events: `snapshot` first, then every `ack`, `operation` and `audit` entry as it happens.

    An id is a place in what Redis keeps: with `Last-Event-ID` any server goes on there, after a restart too. Nothing
    is left out; what is told a second time says `replayed`, and has the same execution, disposition and time.
    A client that is too slow gets a `snapshot` with `why: slow` in place of what it did not read.
    """
    after = None if last_event_id is None else Place.parse(last_event_id.strip())
    context = context_of(request)
    async with AsyncExitStack() as stack:
        opened = context.streams.of(broker_of(request).live, check_id(run_id, "run_id"), after)
        stream = await stack.enter_async_context(opened)
        return _EventResponse(request, stream, stack.pop_all(), until_settled=until is not None)
    raise AssertionError("unreachable: nothing in the block is swallowed")


class _EventResponse(Response):
    """Owns the stream from here on, and frees it however the sending ends."""

    def __init__(self, request: Request, stream: RunStream, stack: AsyncExitStack, *, until_settled: bool) -> None:
        super().__init__(media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._request = request
        self._stream = stream
        self._stack = stack
        self._until_settled = until_settled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_body(body: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        context = context_of(self._request)
        async with self._stack:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            pump = context.streams.pump(self._stream, send_body, until_settled=self._until_settled)
            try:
                await while_present(self._request, context.patience.wait(pump))
            except ClientGone:
                return
            await send_body(b"", more=False)
