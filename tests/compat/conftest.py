"""A server on each backend, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.http import Server, serving


@pytest.fixture
def server(redis_url: str) -> Iterator[Server]:
    with serving(redis_url) as started:
        yield started


@pytest.fixture
def http(server: Server) -> httpx.Client:
    return server.client
