"""Cancels of a subtree, and what is known of cancels: the report of one, the operators' list, previews."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query
from starlette.requests import Request
from starlette.responses import Response

from broker.cancel.report import CancelReport
from broker.protocol.http.answers import (
    CancellationsAnswer,
    CancelTreeAnswer,
    PreviewAnswer,
    ReportAnswer,
)
from broker.protocol.http.requests import PAGE_LIMIT, WAIT_LIMIT_MS, CancelQuery, CancelRequest
from broker.protocol.names import CANCEL_TEXT_LIMIT, clean_text
from broker.server.answers import cancellations_answer, preview_answer, report_answer, respond, tree_answer
from broker.server.auth import Guarded, needs
from broker.server.cancelling import options_of, patiently
from broker.server.context import broker_of, context_of
from broker.server.documents import CANCELLATIONS, KEY, PREVIEW, REPORT, SUBTREE, documented
from broker.server.paging import Cursor, Limit, start_of
from broker.server.tokens import Right

router = APIRouter(prefix="/api/v1", route_class=Guarded)

WaitMs = Annotated[int, Query(ge=0, le=WAIT_LIMIT_MS, description="answer when settled, or after this time")]
Nodes = Annotated[bool, Query(description="0 leaves the list of nodes out")]


@router.post(
    "/executions/{execution_id:id}/cancel-subtree",
    tags=["cancel"],
    summary="Cancel an execution and everything below it",
    responses=documented(CancelTreeAnswer, SUBTREE, (400, 404, 409)),
    openapi_extra=needs(Right.CANCEL, parameters=[KEY]),
)
async def cancel_subtree(
    request: Request,
    execution_id: str,
    query: Annotated[CancelQuery, Query()],
    body: Annotated[CancelRequest | None, Body()] = None,
) -> Response:
    """Like cancel-tree, for a part of a run. The gate of the subtree stays closed: nothing starts below it."""
    reason = clean_text(body.reason, "reason", CANCEL_TEXT_LIMIT) if body else None
    report = await broker_of(request).cancel_subtree(execution_id, **options_of(request, query, reason))
    return respond(tree_answer(await patiently(request, report, query), with_nodes=query.nodes))


@router.get(
    "/runs/{run_id:id}/cancellation",
    tags=["report"],
    summary="Who is still running",
    responses=documented(ReportAnswer, REPORT, (400, 404)),
    openapi_extra=needs(Right.OBSERVE),
)
async def run_cancellation(
    request: Request,
    run_id: str,
    cancel_id: Annotated[str | None, Query(max_length=200, description="where the run has several")] = None,
    wait_ms: WaitMs = 0,
    cursor: Cursor = None,
) -> Response:
    """The report of the run's widest cancel, or of the one that is asked for; a long poll with `wait_ms`."""
    start = start_of(cursor)
    ask = partial(broker_of(request).report, run_id, cancel_id, cursor=start)
    return respond(report_answer(await _answered(request, ask, wait_ms), start))


@router.get(
    "/executions/{execution_id:id}/cancellation",
    tags=["report"],
    summary="The report of an execution's own cancel",
    responses=documented(ReportAnswer, REPORT, (400, 404)),
    openapi_extra=needs(Right.OBSERVE),
)
async def execution_cancellation(
    request: Request, execution_id: str, wait_ms: WaitMs = 0, cursor: Cursor = None
) -> Response:
    """For an execution that belongs to no run; else, without a cancel of its own, that of its run."""
    start = start_of(cursor)
    ask = partial(broker_of(request).report_execution, execution_id, cursor=start)
    return respond(report_answer(await _answered(request, ask, wait_ms), start))


async def _answered(
    request: Request, ask: Callable[..., Coroutine[Any, Any, CancelReport]], wait_ms: int
) -> CancelReport:
    """The report when it is settled, or after this time; at once where none is given, or the server stops."""
    if wait_ms:
        report = await context_of(request).patience.wait(ask(wait=wait_ms / 1000))
        if report is not None:
            return report
    return await ask()


@router.get(
    "/cancellations",
    tags=["report"],
    summary="The operators' list of cancels",
    responses=documented(CancellationsAnswer, CANCELLATIONS, (400,)),
    openapi_extra=needs(Right.OBSERVE),
)
async def cancellations(
    request: Request,
    state: Annotated[Literal["open", "settled", "all"], Query()] = "open",
    cursor: Cursor = None,
    limit: Limit = PAGE_LIMIT,
) -> Response:
    """Oldest first: what is outstanding, since when, and why."""
    page = await broker_of(request).cancellations(state, cursor=start_of(cursor), limit=limit)
    return respond(cancellations_answer(page))


@router.get(
    "/runs/{run_id:id}/preview",
    tags=["report"],
    summary="What a cancel of the run would touch",
    responses=documented(PreviewAnswer, PREVIEW, (400, 404)),
    openapi_extra=needs(Right.OBSERVE),
)
async def preview_run(request: Request, run_id: str, nodes: Nodes = True) -> Response:
    """Changes nothing."""
    return respond(preview_answer(await broker_of(request).preview(run_id), with_nodes=nodes))


@router.get(
    "/executions/{execution_id:id}/preview",
    tags=["report"],
    summary="What a cancel of an execution would touch",
    responses=documented(PreviewAnswer, PREVIEW, (400, 404)),
    openapi_extra=needs(Right.OBSERVE),
)
async def preview_execution(
    request: Request,
    execution_id: str,
    scope: Annotated[Literal["subtree", "execution"], Query()] = "subtree",
    nodes: Nodes = True,
) -> Response:
    """Changes nothing. With `scope=execution` just this one."""
    broker = broker_of(request)
    look = broker.preview_subtree if scope == "subtree" else broker.preview_execution
    return respond(preview_answer(await look(execution_id), with_nodes=nodes))
