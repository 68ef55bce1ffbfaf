"""The state of everything at a glance, read from Redis."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from broker.cancel.recent import POINT_S, WINDOW_S, Recent
from broker.protocol.http.overview import OverviewAnswer, RecentLagAnswer
from broker.server.answers import ack_lag_answer, cancellation_answer, respond
from broker.server.auth import Guarded, needs
from broker.server.context import broker_of
from broker.server.documents import CANCELLATIONS, documented
from broker.server.tokens import Right
from broker.server.worker_answers import WORKERS, workers_answer

router = APIRouter(prefix="/api/v1", route_class=Guarded)

WORKERS_LISTED = 100
_NONE = {"count": 0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
_EXAMPLE = {
    "open": 1, "overdue": 0, "outstanding": 1, "oldest_age_ms": 1200, "causes": {"stopping": 1},
    "recent": {"window_s": 60, "point_s": 2, "points": [None, 1.2], "ack_lag": {"received": _NONE, "stopped": _NONE},
               "sampled": False},
    "cancellations": CANCELLATIONS["cancellations"], "workers_alive": 1, "workers_silent": 0, "held": 3,
    "workers": WORKERS["workers"], "truncated": False,
}  # fmt: skip


@router.get(
    "/overview",
    tags=["report"],
    summary="Open cancels, causes, ack lag and workers at a glance",
    responses=documented(OverviewAnswer, _EXAMPLE, (400,)),
    openapi_extra=needs(Right.OBSERVE),
)
async def overview(request: Request) -> Response:
    """What `broker top` shows: any replica gives the same answer, and asking often costs no more than asking once."""
    seen = await broker_of(request).overview()
    work, workers = seen.work, workers_answer(seen.workers).workers
    alive = sum(one.alive for one in workers)
    return respond(
        OverviewAnswer(
            open=work.open_operations,
            overdue=work.overdue_operations,
            outstanding=work.unsettled,
            oldest_age_ms=round(work.oldest_s * 1000),
            causes=dict(work.causes),
            recent=_recent(seen.recent),
            cancellations=[cancellation_answer(one) for one in seen.cancellations],
            workers_alive=alive,
            workers_silent=len(workers) - alive,
            held=sum(one.held or 0 for one in workers),
            workers=workers[:WORKERS_LISTED],
            truncated=not work.complete or seen.workers.next_cursor is not None,
        )
    )


def _recent(recent: Recent) -> RecentLagAnswer:
    return RecentLagAnswer(
        window_s=WINDOW_S,
        point_s=POINT_S,
        points=list(recent.points),
        ack_lag=ack_lag_answer(recent.lag),
        sampled=recent.sampled,
    )
