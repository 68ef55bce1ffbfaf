"""Cursors: a client hands back what it was given, and does not look inside."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from broker.errors import InvalidInput
from broker.protocol.http.requests import PAGE_LIMIT

Cursor = Annotated[str | None, Query(max_length=20, description="`next_cursor` of the page before")]
PositionCursor = Annotated[str | None, Query(max_length=41, description="`next_cursor` of the page before")]
"""A place in a stream."""
Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="how many at once")]


def start_of(cursor: str | None) -> int:
    """Where the page begins. Raises InvalidInput."""
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise InvalidInput(f"cursor {cursor!r}: allowed is the next_cursor of the page before")
    return int(cursor)
