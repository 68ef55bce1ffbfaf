"""A name is looked up again at each connection: a Redis that moves is found where it is now."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import broker
from broker.worker.listener import WorkerSettings
from tests.support.points import recording
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

NAME = "redis.test"


async def test_a_redis_that_moves_is_found_where_its_name_leads_now(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port stands for its address here; both connections of both sides move, the subscriptions too."""
    look_up = socket.getaddrinfo
    with RedisServer() as other:
        leads_to = [redis_server.port]

        def found(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            if host != NAME:
                return look_up(host, port, *args, **options)
            return look_up("127.0.0.1", leads_to[0], *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", found)
        url = f"redis://{NAME}:6379/0"
        settings = WorkerSettings(url=url, worker_id="w1", heartbeat_s=0.05)
        async with broker.connect(url, sweep=False) as b, broker.Worker.with_settings(settings) as worker:
            async with worker.execution("run-1", "before"):
                pass
            leads_to[0] = other.port
            with recording() as passed:
                redis_server.kill()
                await wait_until(lambda: ("worker.restored", "w1") in passed, "the worker to speak at the new place")
            await wait_until(lambda: worker.degraded is None and b.degraded is None, "both to hear again")
            await b.register("run-2", [broker.Execution("root")])

            async def body(execution_id: str) -> None:
                await b.cancel_run("run-2")
                await asyncio.Event().wait()

            with pytest.raises(broker.ExecutionCancelled):
                await worker.run(body, "root", run_id="run-2", execution_id="root")
