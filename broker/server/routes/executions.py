"""Executions: register one that belongs to no run, look one up."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from broker.protocol.http.answers import ExecutionAnswer, RegisteredAnswer
from broker.protocol.http.requests import ExecutionRequest
from broker.server.answers import execution_answer, respond
from broker.server.auth import Guarded, needs
from broker.server.context import broker_of
from broker.server.documents import EXECUTION, LONE_BODY, REGISTERED_ONE, documented
from broker.server.routes.runs import registered_answer, sort_out
from broker.server.tokens import Right

router = APIRouter(prefix="/api/v1", route_class=Guarded)


@router.post(
    "/executions",
    tags=["register"],
    summary="Register one execution that belongs to no run",
    responses=documented(RegisteredAnswer, REGISTERED_ONE, (400, 413)),
    openapi_extra=needs(Right.PUBLISH, **LONE_BODY),
)
async def register_one(request: Request, body: ExecutionRequest) -> Response:
    """It stands alone: a parent that is named is kept, and not followed."""
    usable, refused = sort_out([body])
    done = await broker_of(request).register(None, usable)
    return respond(registered_answer(done, refused))


@router.get(
    "/executions/{execution_id:id}",
    tags=["look up"],
    summary="One execution with both its axes",
    responses=documented(ExecutionAnswer, EXECUTION, (400, 404)),
    openapi_extra=needs(Right.OBSERVE),
)
async def execution(request: Request, execution_id: str) -> Response:
    """What was decided (`status`), and what really happened (`disposition`)."""
    return respond(execution_answer(await broker_of(request).execution(execution_id)))
