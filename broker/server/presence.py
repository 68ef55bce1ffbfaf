"""Work that is worth something only while the client is there: a long poll ends with its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")

GONE = 499
"""The status in the access log of a request whose client has left; nobody gets it."""


class ClientGone(Exception):
    """The client has closed the connection."""


async def while_present(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` answers. Cancels it and raises ClientGone when the client leaves; the body has been read before."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
