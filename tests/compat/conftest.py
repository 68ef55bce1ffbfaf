"""A server on each backend, over a real socket: one for the tests of a file, which only ask and are answered."""

from __future__ import annotations

from tests.support.http import http, servers

__all__ = ["http", "servers"]
