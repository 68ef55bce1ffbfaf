"""What Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from broker.errors import BrokerError
from broker.figures import SharedFigures
from broker.observe.events import METRICS_FAILED
from broker.observe.log import get_logger
from broker.server.auth import Guarded, needs
from broker.server.context import context_of
from broker.server.metrics import CONTENT_TYPE, render
from broker.server.tokens import Right

router = APIRouter(tags=["health"], route_class=Guarded)
log = get_logger("broker.server")
EXAMPLE = "# TYPE broker_executions_unsettled gauge\nbroker_executions_unsettled 3.0\n"


@router.get(
    "/metrics",
    summary="Metrics in Prometheus's text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"example": EXAMPLE}}, "description": "Done"}},
    openapi_extra=needs(Right.OBSERVE),
)
async def metrics(request: Request) -> Response:
    """What comes from Redis is the same from every replica: take its maximum over them, never the sum.

    Labels name agent nodes, so with tokens it needs the scope `observe`; without, it is open like everything. While
    Redis is away it answers with what this replica knows of itself, and `broker_redis_up` 0.
    """
    context = context_of(request)
    shared: SharedFigures | None = None
    try:
        shared = await context.broker.figures.shared()
    except BrokerError as error:
        log.warning(METRICS_FAILED, error=str(error))
    return Response(render(context.traffic, context.broker.figures.own(), shared), media_type=CONTENT_TYPE)
