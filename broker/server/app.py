"""`create_app()`: the whole server as one ASGI application, to be served by serve.py or by any ASGI server."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import broker
from broker.control import Broker
from broker.server import docs, health, problems
from broker.server.access import Access
from broker.server.context import Context
from broker.server.patience import Patience
from broker.server.routes import cancellations, events, executions, live, metrics, overview, runs, workers
from broker.server.routes.compatible import compatible_routes
from broker.server.streams import Streams
from broker.server.tokens import Tokens

TITLE = "Cancellation broker"
DESCRIPTION = (
    "Cancels a tree of executions bottom-up, and names every execution that still runs."
    " Errors are {error: code, message: text}; the codes are stable. Ids: 1 to 200 of A-Z a-z 0-9 . _ : @ -"
)
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
ROUTERS = (
    health.router,
    metrics.router,
    executions.router,
    runs.router,
    cancellations.router,
    workers.router,
    events.router,
    live.router,
    overview.router,
)


def create_app(connected: Broker, tokens: Tokens | None = None, streams: Streams | None = None) -> FastAPI:
    """`connected` is a broker whose block has been entered, and stays so while the application serves."""
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version=broker.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = Context(connected, tokens or Tokens(), Patience(), streams or Streams())
    problems.install(app)
    docs.install(app)
    app.include_router(compatible_routes())
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Access)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The framework's document, without its own 422 answers, which are never given here."""
    if app.openapi_schema is None:
        document = get_openapi(title=TITLE, version=app.version, description=DESCRIPTION, routes=app.routes)
        for methods in document["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        components = document.setdefault("components", {})
        for name in ("HTTPValidationError", "ValidationError"):
            components.get("schemas", {}).pop(name, None)
        components["securitySchemes"] = _SCHEMES
        app.openapi_schema = document
    return app.openapi_schema
