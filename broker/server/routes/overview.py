"""The state of everything at a glance, read from Redis."""

from __future__ import annotations

import asyncio
from collections import Counter

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from broker.cancel.recent import POINT_S, WINDOW_S, Recent
from broker.protocol.http.answers import AckLagAnswer, LagAnswer
from broker.protocol.http.overview import OverviewAnswer, RecentLagAnswer
from broker.server.answers import cancellations_answer, respond
from broker.server.auth import Guarded, needs
from broker.server.context import broker_of
from broker.server.documents import CANCELLATIONS, documented
from broker.server.tokens import Right
from broker.server.worker_answers import WORKERS, workers_answer

router = APIRouter(prefix="/api/v1", route_class=Guarded)

LISTED = 100
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
    """What `broker top` shows: any replica gives the same answer."""
    broker = broker_of(request)
    page, roster, recent = await asyncio.gather(broker.cancellations("open"), broker.workers(), broker.recent_lag())
    found, workers = cancellations_answer(page), workers_answer(roster).workers
    causes: Counter[str] = Counter()
    for one in found.cancellations:
        causes.update(one.causes)
    alive = sum(one.alive for one in workers)
    workers.sort(key=lambda one: (one.alive, -one.last_seen_ms, one.worker_id))
    return respond(
        OverviewAnswer(
            open=len(found.cancellations),
            overdue=sum(one.overdue for one in found.cancellations),
            outstanding=found.outstanding,
            oldest_age_ms=found.oldest_age_ms,
            causes=dict(causes),
            recent=_recent(recent),
            cancellations=found.cancellations[:LISTED],
            workers_alive=alive,
            workers_silent=len(workers) - alive,
            held=sum(one.held or 0 for one in workers),
            workers=workers[:LISTED],
            truncated=found.next_cursor is not None or roster.next_cursor is not None,
        )
    )


def _recent(recent: Recent) -> RecentLagAnswer:
    lags = [
        LagAnswer(count=lag.count, p50_ms=lag.p50_ms, p99_ms=lag.p99_ms, max_ms=lag.max_ms)
        for lag in (recent.lag.received, recent.lag.stopped)
    ]
    return RecentLagAnswer(
        window_s=WINDOW_S,
        point_s=POINT_S,
        points=list(recent.points),
        ack_lag=AckLagAnswer(received=lags[0], stopped=lags[1]),
        sampled=recent.sampled,
    )
