"""Whether the process lives, and whether it can work. Open to everyone: they name no run and no token."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from broker.protocol.http.answers import HealthAnswer
from broker.server.answers import respond
from broker.server.context import broker_of
from broker.server.documents import LIVE, READY, documented

router = APIRouter(tags=["health"])


@router.get("/livez", summary="The process answers", responses=documented(HealthAnswer, LIVE))
@router.head("/livez", include_in_schema=False)
async def livez() -> Response:
    return respond(HealthAnswer(status="ok"))


@router.get(
    "/readyz",
    summary="Redis answers, the scripts are loaded, the listener is confirmed",
    responses={**documented(HealthAnswer, READY), 503: {"model": HealthAnswer, "description": "Not ready"}},
)
@router.head("/readyz", include_in_schema=False)
async def readyz(request: Request) -> Response:
    checks = dict(await broker_of(request).ready())
    is_ready = all(word == "ok" for word in checks.values())
    answer = HealthAnswer(status="ok" if is_ready else "unavailable", checks=checks)
    return respond(answer, 200 if is_ready else 503)
