"""A server on each backend, over a real socket: one of its own for a test, and one for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.http import Server, http, servers, serving

__all__ = ["http", "servers"]


@pytest.fixture
def server(redis_url: str) -> Iterator[Server]:
    """Of this test alone, which may stop it."""
    with serving(redis_url) as started:
        yield started
