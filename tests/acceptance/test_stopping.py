"""Redis goes and comes back; a server stops while a cancel is in flight: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.support.http import register, serving
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until, wait_until_sync

TREE = [
    {"execution_id": "root", "status": "running"},
    {"execution_id": "leaf", "parent_execution_id": "root", "status": "running"},
]
LONGEST_S = 10.0
"""For a 503 that comes after half a second at the latest, on a machine that is not ours alone."""


def in_background(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    return thread, found


def is_ready(http: httpx.Client) -> bool:
    return http.get("/readyz").status_code == 200


def test_redis_gone_is_said_quickly_and_the_server_recovers(redis_server: RedisServer) -> None:
    with serving(redis_server.url, redis_timeout_s=0.5) as server:
        http = server.client
        register(http, "run-1", *TREE)
        for away, back in ((redis_server.kill, redis_server.restart), (redis_server.pause, redis_server.resume)):
            away()
            for method, path in (
                ("POST", "/api/v1/workflows/run-1/cancel-tree"),
                ("POST", "/api/v1/executions/leaf/cancel"),
                ("GET", "/api/v1/runs/run-1"),
            ):
                began = time.monotonic()
                answer = http.request(method, path)
                assert time.monotonic() - began < LONGEST_S
                assert (answer.status_code, answer.json()["error"]) == (503, "broker_unavailable")
                assert answer.headers["retry-after"] == "1"
            not_ready = http.get("/readyz")
            assert (not_ready.status_code, not_ready.json()["status"]) == (503, "unavailable")
            assert http.get("/livez").status_code == 200
            back()
            wait_until_sync(lambda: is_ready(http), "the server to be ready again", timeout=30.0)
        assert http.post("/api/v1/workflows/run-1/cancel-tree").status_code == 200


def test_a_long_poll_is_answered_when_the_server_stops(redis_url: str) -> None:
    with serving(redis_url) as server:
        register(server.client, "run-1", *TREE)
        server.client.post("/api/v1/workflows/run-1/cancel-tree").raise_for_status()
        runs = f"{server.url}/api/v1/runs/run-1/cancellation?wait_ms=60000"
        trees = f"{server.url}/api/v1/workflows/run-1/cancel-tree?wait_ms=60000"
        polls = [
            in_background(lambda: httpx.get(runs, timeout=50)),
            in_background(lambda: httpx.post(trees, timeout=50)),
        ]
        wait_until_sync(lambda: server.polls() == 2, "both polls to be waiting")
        server.stop()
        for thread, found in polls:
            thread.join(20)
            assert [answer.status_code for answer in found] == [200]


def test_a_connection_that_was_being_accepted_when_the_server_stopped_is_closed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made behind uvicorn's one look at all connections, says nothing, and nothing waits for it."""
    as_it_is = uvicorn.Server.shutdown
    theirs, ours = socket.socketpair()
    accepted = threading.Event()

    async def with_one_more(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        stopping = asyncio.create_task(as_it_is(server, sockets))
        await wait_until(lambda: not server.servers[0].is_serving(), "uvicorn to have looked at its connections")
        protocol = H11Protocol(server.config, server.server_state, {})
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)
        accepted.set()
        await stopping

    monkeypatch.setattr(uvicorn.Server, "shutdown", with_one_more)
    with theirs, serving(redis_url, stop_timeout_s=600) as server:
        server.stop()
        theirs.settimeout(LONGEST_S)
        assert (accepted.is_set(), theirs.recv(1)) == (True, b"")


def test_a_cancel_in_flight_is_finished_by_another_replica(redis_url: str) -> None:
    """Behind a barrier the root's turn comes when the deadline is near: the server that was asked is gone by then."""
    with serving(redis_url) as other:
        with serving(redis_url) as asked:
            register(asked.client, "run-1", *TREE)
            query = "order=bottom_up_barrier&deadline_ms=2000"
            asked.client.post(f"/api/v1/workflows/run-1/cancel-tree?{query}").raise_for_status()
            asked.stop()

        def both_are_told() -> bool:
            running = other.client.get("/api/v1/runs/run-1/cancellation").json()["still_running"]
            return sorted(one["execution_id"] for one in running if one["attempts"]) == ["leaf", "root"]

        wait_until_sync(both_are_told, "the other server to tell the root", timeout=40.0)
