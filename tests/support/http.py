"""The HTTP server on a real socket, in a thread of this process: what a client meets, byte for byte."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from broker.server.serve import Serving, serve
from broker.server.settings import load_settings
from tests.support.points import PATIENCE_S


class Server:
    """One server; `client` talks to it without a token."""

    def __init__(self, redis_url: str, **options: Any) -> None:
        options = {"host": "127.0.0.1", "port": 0, "redis_timeout_s": PATIENCE_S, **options}
        self._settings = load_settings(redis_url=redis_url, **options)
        self._ready: Future[Serving] = Future()
        self._thread = threading.Thread(target=self._run, name="http-server", daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(serve(self._settings, self._ready.set_result))
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    def __enter__(self) -> Server:
        self._thread.start()
        self.url = self._ready.result(PATIENCE_S).address
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)
        return self

    def polls(self) -> int:
        """How many long polls are waiting in it."""
        return self._ready.result(PATIENCE_S).patience.waiting

    def streams(self) -> int:
        """How many event streams are open in it."""
        return self._ready.result(PATIENCE_S).streams.open

    def stop(self) -> None:
        """Tells it to stop, as a signal does, and waits until it has."""
        self._ready.result(PATIENCE_S).stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the server did not stop"

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self._thread.is_alive():
            self.stop()


@contextmanager
def serving(redis_url: str, **options: Any) -> Iterator[Server]:
    """A server on this Redis while the block runs."""
    with Server(redis_url, **options) as server:
        yield server


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], Server]]:
    """The one server of a file for each Redis; each of its tests finds the database empty."""
    with ExitStack() as stack:
        yield functools.cache(lambda url: stack.enter_context(serving(url)))


@pytest.fixture
def http(redis_url: str, servers: Callable[[str], Server]) -> httpx.Client:
    """A client of that server."""
    return servers(redis_url).client


def register(client: httpx.Client, run_id: str, *executions: dict[str, Any]) -> None:
    """Registers these, all of which have to be taken."""
    answer = client.post(f"/api/v1/runs/{run_id}/executions", json={"executions": list(executions)})
    assert answer.json() == {"registered": len(executions), "refused": []}, answer.text
