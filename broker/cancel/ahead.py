"""A narrow cancel in one round trip: its entry, its gate, the read behind it and the telling are asked for together.

They are the same steps in the same order, and each looks for itself: what comes before its turn, because the one before
it failed or came later, writes nothing and answers `gone`. Then it is done again, one by one.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from broker.cancel.survey import Snapshot, Survey
from broker.observe import signals
from broker.protocol.states import Order, Scope
from broker.store.operations import CancelTerms, Opened, Operations, Told

OPENER = "1"  # fence number of the process that opened the operation; whoever takes it over has a higher one
PUBLISHED = "published"


class Ahead(NamedTuple):
    """What the walk of one execution has found and done already."""

    snapshot: Snapshot
    told: list[Told]


async def list_and_open(operations: Operations, run_id: str, cancel_id: str, terms: CancelTerms) -> Opened:
    """On the work list before the gate closes. Raises what `Operations.open` raises."""
    listed_at_us = await operations.enlist(run_id, cancel_id)
    await signals.reached("cancel.listed", cancel_id)
    return await operations.open(run_id, cancel_id, terms, listed_at_us)


async def list_open_and_tell(
    operations: Operations, survey: Survey, run_id: str, cancel_id: str, terms: CancelTerms
) -> tuple[Opened, Ahead | None]:
    """Opens the operation, and tells at once where it is a narrow one. Raises what `Operations.open` raises.

    None: nothing was told yet.
    """
    if terms.scope is not Scope.EXECUTION or terms.order is not Order.BOTTOM_UP:
        return await list_and_open(operations, run_id, cancel_id, terms), None
    since_us = operations.passed_us() or int(await operations.enlist(run_id, cancel_id))
    listed, opened, snapshot, published = await asyncio.gather(  # they are queued in this order, and Redis keeps it
        operations.enlist_since(run_id, cancel_id, since_us),
        operations.open(run_id, cancel_id, terms, str(since_us)),
        survey.load_one(run_id, terms.target),
        operations.publish_as(run_id, cancel_id, OPENER, [terms.target]),
        return_exceptions=True,
    )
    if isinstance(opened, BaseException):
        raise opened
    if isinstance(listed, BaseException) and not opened.repeated:
        await operations.enlist(run_id, cancel_id)  # it was refused and the gate was not: Redis takes writes again
    if isinstance(snapshot, BaseException) or isinstance(published, BaseException):
        return opened, None  # the walk meets what is wrong
    code, told = published
    return opened, Ahead(snapshot, told) if code == PUBLISHED and snapshot.executions else None
