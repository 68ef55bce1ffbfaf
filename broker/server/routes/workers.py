"""Workers without Redis: start, finish, ack, heartbeat; and the list of all workers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from broker.protocol.http.answers import CodeAnswer, DeadAnswer, HeartbeatAnswer, StartedAnswer, WorkersAnswer
from broker.protocol.http.requests import (
    PAGE_LIMIT,
    AckRequest,
    DeadRequest,
    FinishRequest,
    HeartbeatRequest,
    StartRequest,
)
from broker.protocol.names import ID_LIMIT
from broker.server.answers import respond
from broker.server.auth import Guarded, needs
from broker.server.context import broker_of, context_of
from broker.server.documents import documented
from broker.server.paging import Limit
from broker.server.presence import GONE, ClientGone, while_present
from broker.server.tokens import Right
from broker.server.worker_answers import ACKED, BEAT, DEAD, FINISHED, STARTED, WORKERS, workers_answer

router = APIRouter(prefix="/api/v1", route_class=Guarded, tags=["workers"])

After = Annotated[str, Query(max_length=ID_LIMIT, description="`next_cursor` of the page before")]


@router.post(
    "/executions/{execution_id:id}/start",
    summary="Claim an execution, or learn that it is cancelled",
    responses=documented(StartedAnswer, STARTED, (400, 409)),
    openapi_extra=needs(Right.PUBLISH),
)
async def start(request: Request, execution_id: str, body: StartRequest) -> Response:
    """`claimed`: run it. `cancelled`: do not; there is nothing to ack. A repeat is answered the same."""
    return respond(await broker_of(request).http_workers.start(execution_id, body))


@router.post(
    "/executions/{execution_id:id}/finish",
    summary="The holder's end of an execution",
    responses=documented(CodeAnswer, FINISHED, (400, 404)),
    openapi_extra=needs(Right.PUBLISH),
)
async def finish(request: Request, execution_id: str, body: FinishRequest) -> Response:
    """On a cancelled execution it is the settling ack. `queued` gives the claim back for a retry."""
    return respond(await broker_of(request).http_workers.finish(execution_id, body))


@router.post(
    "/executions/{execution_id:id}/ack",
    summary="What the holder says of a cancel",
    responses=documented(CodeAnswer, ACKED, (400, 404)),
    openapi_extra=needs(Right.PUBLISH),
)
async def ack(request: Request, execution_id: str, body: AckRequest) -> Response:
    """Durable and idempotent: say it until it is answered."""
    return respond(await broker_of(request).http_workers.ack(execution_id, body))


@router.post(
    "/workers/{worker_id:id}/heartbeat",
    summary="A worker lives, and asks for the cancels of what it holds",
    responses=documented(HeartbeatAnswer, BEAT, (400, 409)),
    openapi_extra=needs(Right.PUBLISH),
)
async def heartbeat(request: Request, worker_id: str, body: HeartbeatRequest) -> Response:
    """Without `incarnation` a new process begins. With `wait_ms` it answers at the first cancel not acked yet."""
    workers = broker_of(request).http_workers
    body = await workers.begin(worker_id, body)
    if body.wait_ms:
        poll = workers.beat(worker_id, body, wait_ms=body.wait_ms)
        try:
            answer = await while_present(request, context_of(request).patience.wait(poll))
        except ClientGone:
            return Response(status_code=GONE)
        if answer is not None:
            return respond(answer)
    return respond(await workers.beat(worker_id, body, wait_ms=0))


@router.get(
    "/workers",
    summary="Workers, alive or seen within a day",
    responses=documented(WorkersAnswer, WORKERS, (400,)),
    openapi_extra=needs(Right.OBSERVE),
)
async def list_workers(request: Request, cursor: After = "", limit: Limit = PAGE_LIMIT) -> Response:
    """By their ids. One that ended in good order is not listed, one that crashed is, for a day."""
    return respond(workers_answer(await broker_of(request).workers(cursor, limit)))


@router.post(
    "/workers/{worker_id:id}/dead",
    summary="Declare a worker process dead",
    responses=documented(DeadAnswer, DEAD, (400, 404, 409)),
    openapi_extra=needs(Right.CANCEL),
)
async def dead(request: Request, worker_id: str, body: DeadRequest) -> Response:
    """The proof that a crashed process is gone: what it held of cancelled work settles as lost."""
    await broker_of(request).declare_dead(worker_id, body.incarnation, body.reason)
    return respond(DeadAnswer(worker_id=worker_id, incarnation=body.incarnation))
