"""Lists that come in pages: every page of one, and the pages as one answer for machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from broker.cli.client import Client, Query, Reply
from broker.cli.failures import not_ours
from broker.protocol.http.answers import Answer
from broker.protocol.http.requests import PAGE_LIMIT

A = TypeVar("A", bound=Answer)


def pages(
    client: Client,
    model: type[A],
    *parts: str,
    query: Query | None = None,
    on_page: Callable[[int], None] = lambda _: None,
) -> Iterator[Reply[A]]:
    """Page after page; `on_page` is told the number of the page that is asked for.

    Raises BrokerError where the server gives a cursor twice, which would never end.
    """
    asked: set[str] = set()
    cursor: str | None = None
    while True:
        on_page(len(asked))
        page_query: Query = {"limit": PAGE_LIMIT, **(query or {})}
        if cursor is not None:
            page_query["cursor"] = cursor
        reply = client.get(model, *parts, query=page_query)
        yield reply
        cursor = getattr(reply.answer, "next_cursor", None)
        if cursor is None:
            return
        if cursor in asked:
            raise not_ours(client.server, f"it gives the cursor {cursor!r} twice")
        asked.add(cursor)


def joined(raws: list[dict[str, Any]], field: str) -> dict[str, Any]:
    """All pages as one answer: the first one's fields, and the list of all."""
    whole = {key: value for key, value in raws[0].items() if key != "next_cursor"}
    whole[field] = [one for raw in raws for one in raw.get(field, [])]
    return whole
