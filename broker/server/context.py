"""What every request handler needs, made once for each application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from broker.control import Broker
from broker.server.metrics import Traffic
from broker.server.patience import Patience
from broker.server.streams import Streams
from broker.server.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Context:
    """`broker` is connected."""

    broker: Broker
    tokens: Tokens
    patience: Patience
    streams: Streams
    traffic: Traffic = field(default_factory=Traffic)


def context_of(request: Request) -> Context:
    """The context of the application that serves this request."""
    return cast("Context", request.app.state.context)


def broker_of(request: Request) -> Broker:
    """The broker of the application that serves this request."""
    return context_of(request).broker


def caller_of(request: Request) -> str | None:
    """Who asks: the name of the token; without tokens what the header `X-Requested-By` says."""
    return cast("str | None", request.state.caller)
