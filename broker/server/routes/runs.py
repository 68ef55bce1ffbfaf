"""Runs: register their executions, look at them in pages."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from broker.control import Registered
from broker.errors import InvalidInput
from broker.protocol.http.answers import AuditAnswer, RefusedAnswer, RegisteredAnswer, RunAnswer
from broker.protocol.http.requests import PAGE_LIMIT, ExecutionRequest, RegisterRequest
from broker.protocol.names import check_id
from broker.protocol.registration import Execution
from broker.server.answers import audit_answer, respond, run_answer
from broker.server.auth import Guarded, needs
from broker.server.context import broker_of
from broker.server.documents import AUDIT, REGISTER_BODY, REGISTERED, RUN, documented
from broker.server.paging import Cursor, Limit, PositionCursor, start_of
from broker.server.tokens import Right

router = APIRouter(prefix="/api/v1", route_class=Guarded)


@router.post(
    "/runs/{run_id:id}/executions",
    tags=["register"],
    summary="Register executions of a run",
    responses=documented(RegisteredAnswer, REGISTERED, (400, 413)),
    openapi_extra=needs(Right.PUBLISH, **REGISTER_BODY),
)
async def register(request: Request, run_id: str, body: RegisterRequest) -> Response:
    """Up to 10,000 at once, in any order; a known id again only fills in what was unknown.

    What cannot be recorded is listed with its code; `run_cancelled` is recorded as cancelled and never to be started.
    """
    check_id(run_id, "run_id")
    usable, refused = sort_out(body.executions)
    done = await broker_of(request).register(run_id, usable)
    return respond(registered_answer(done, refused))


@router.get(
    "/runs/{run_id:id}",
    tags=["look up"],
    summary="A run and its executions, in pages",
    responses=documented(RunAnswer, RUN, (400, 404)),
    openapi_extra=needs(Right.OBSERVE),
)
async def run(request: Request, run_id: str, cursor: Cursor = None, limit: Limit = PAGE_LIMIT) -> Response:
    """Oldest first. `status` is the effective one: what a closed gate covers reads cancelled."""
    return respond(run_answer(await broker_of(request).run(run_id, cursor=start_of(cursor), limit=limit)))


@router.get(
    "/runs/{run_id:id}/log",
    tags=["look up"],
    summary="Who cancelled what, when and why, and how it ended",
    responses=documented(AuditAnswer, AUDIT, (400, 404)),
    openapi_extra=needs(Right.OBSERVE),
)
async def log(request: Request, run_id: str, cursor: PositionCursor = None, limit: Limit = PAGE_LIMIT) -> Response:
    """Oldest first; about the last 1,000 entries are kept. What is decided meanwhile is on the last page."""
    entries = await broker_of(request).audit(run_id, cursor=cursor, limit=limit)
    return respond(audit_answer(run_id, entries, next_cursor=entries[-1].position if len(entries) == limit else None))


def sort_out(requested: list[ExecutionRequest]) -> tuple[list[Execution], list[RefusedAnswer]]:
    """One that cannot be used costs the others nothing."""
    usable: list[Execution] = []
    refused: list[RefusedAnswer] = []
    for one in requested:
        try:
            usable.append(_execution(one))
        except InvalidInput as error:
            refused.append(RefusedAnswer(execution_id=one.execution_id[:200], error=error.code))
    return usable, refused


def registered_answer(done: Registered, refused: list[RefusedAnswer]) -> RegisteredAnswer:
    listed = [RefusedAnswer(execution_id=one, error=code) for one, code in done.refused]
    return RegisteredAnswer(registered=done.registered, refused=[*refused, *listed])


def _execution(one: ExecutionRequest) -> Execution:
    """Raises InvalidInput."""
    check_id(one.execution_id, "execution_id")
    if one.parent_execution_id:
        check_id(one.parent_execution_id, "parent_execution_id")
    if one.agent_node_id:
        check_id(one.agent_node_id, "agent_node_id")
    return Execution(
        one.execution_id, one.parent_execution_id, one.status, one.agent_node_id, one.reasoner_id, one.started_at
    )
