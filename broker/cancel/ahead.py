"""A narrow cancel in one round trip: its gate, the read behind it and the telling are asked for together.

They are the same steps in the same order, each of them a script that looks for itself: what comes before its turn,
because the one before it failed or came later, writes nothing and answers `gone`. Then it is done again, one by one.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from broker.cancel.survey import Snapshot, Survey
from broker.protocol.states import Order, Scope
from broker.store.operations import CancelTerms, Opened, Operations, Told

OPENER = "1"  # fence number of the process that opened the operation; whoever takes it over has a higher one
PUBLISHED = "published"


class Ahead(NamedTuple):
    """What the walk of one execution has found and done already."""

    snapshot: Snapshot
    told: list[Told]


async def open_and_tell(
    operations: Operations, survey: Survey, run_id: str, cancel_id: str, terms: CancelTerms, listed_at_us: str
) -> tuple[Opened, Ahead | None]:
    """Opens the operation, and tells at once where it is a narrow one. Raises what `Operations.open` raises.

    None: nothing was told yet.
    """
    opening = operations.open(run_id, cancel_id, terms, listed_at_us)
    if terms.scope is not Scope.EXECUTION or terms.order is not Order.BOTTOM_UP:
        return await opening, None
    opened, snapshot, published = await asyncio.gather(  # they are queued in this order, and Redis keeps it
        opening,
        survey.load_one(run_id, terms.target),
        operations.publish_as(run_id, cancel_id, OPENER, [terms.target]),
        return_exceptions=True,
    )
    if isinstance(opened, BaseException):
        raise opened
    if isinstance(snapshot, BaseException) or isinstance(published, BaseException):
        return opened, None  # the walk meets what is wrong
    code, told = published
    return opened, Ahead(snapshot, told) if code == PUBLISHED and snapshot.executions else None
