"""The HTTP server on a real socket, in the loop of the test, with the parts to look at what stands in Redis."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import uvicorn

import broker
from broker.server.app import create_app
from broker.server.context import Context
from tests.support.parts import Parts, open_parts
from tests.support.points import PATIENCE_S
from tests.support.wait import wait_until


class _Server(uvicorn.Server):
    """Without the signal handlers: they belong to the test run."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True)
class Served:
    """A server that serves, its broker, and a client."""

    client: httpx.AsyncClient
    control: broker.Broker
    parts: Parts
    context: Context


@asynccontextmanager
async def open_served(url: str) -> AsyncIterator[Served]:
    async with broker.connect(url, sweep=False) as control, open_parts(url) as parts:
        app = create_app(control)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            try:
                await wait_until(lambda: server.started, "the server to serve")
                async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_S, limits=limits) as client:
                    yield Served(client, control, parts, app.state.context)
            finally:
                app.state.context.patience.stop()
                server.should_exit = True
                await serving
