"""The verb of those who only know of executions: what they were said to be, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from broker.protocol.records import escape
from broker.store.backend import Backend


class Report(NamedTuple):
    """What an event says of one execution; empty text where unknown.

    `stamp` comes from `event_stamp`. With `worker_id` it is the holder of claim number `start` who speaks;
    incarnation "0" stands for a process that has none.
    """

    execution_id: str
    status: str
    parent_execution_id: str = ""
    agent_node_id: str = ""
    reasoner_id: str = ""
    started_at_us: str = ""
    stamp: str = "0,0,0"
    worker_id: str = ""
    incarnation: str = "0"
    start: str = ""


def event_stamp(occurred_us: int, ms: str = "0", number: str = "0") -> str:
    """When it was so, then the two parts of the stream id, which decide between equal times."""
    return f"{occurred_us},{ms},{number}"


async def report(backend: Backend, run_id: str, reports: Sequence[Report]) -> list[str]:
    """Takes at most 100 reports into their run, in this order: an EACH word of report_status.lua for each.

    Who calls has noted the executions in the index before. Operations that are open again are due at once.
    """
    fields: list[str] = []
    for execution_id, status, parent, agent_node, reasoner, *others in reports:
        fields += (execution_id, _escaped(status), parent, agent_node, _escaped(reasoner), *others)
    _, reopened, *codes = await backend.on_run(
        backend.scripts.report_status, run_id, *fields, run_id=run_id, channels=backend.keys.channels(run_id)
    )
    for cancel_id in dict.fromkeys(reopened):
        await backend.commands.command("ZADD", backend.keys.work_list, "0", f"{run_id}|{cancel_id}")
    return [str(code) for code in codes]


_escaped = lru_cache(maxsize=4096)(escape)  # few words, and short ones, that every event has
