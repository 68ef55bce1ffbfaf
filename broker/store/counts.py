"""What is counted of cancels, for all runs: carried here from the runs, each count exactly once.

A script counts where it applies something (include/counts.lua), by appending lines to a key of the run: in Cluster it
reaches no other slot, and one APPEND a call is all that an ack pays. Neither could whoever called it add to the counts
of all by the script's answer: a process that dies between the two, or a connection that breaks and has the call
answered `repeat`, would lose counts, and a HINCRBY sent again would count twice. So a run's counts go as
a batch, in three steps, by whoever looks at one of its operations:

1. collect_counts takes the run's lines aside under an id, or answers with the batch that is still there;
2. add_counts adds it in the slot of all, with a marker of that id: a second time changes nothing;
3. drop_counts drops it, and the marker gets an early end.

Whoever dies after 1 or 2 leaves the batch, and the next look carries it on; two that carry the same batch add it
once. The marker outlives the run until step 3 is answered; after that nobody can read the batch again, and
who read it before and then stood still for ten minutes is refused.
What is lost: counts of a run whose keys end before anyone looks (its last look is at most an hour before), and what
Redis itself loses.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from broker.observe import signals
from broker.observe.metrics import AGENT_NODES, LAG_BOUNDS_S
from broker.store.backend import Backend
from broker.store.keys import DAY_S, HOUR_S

PAGE_BYTES = 65_536  # parsed in about 3 ms, so nobody waits for a run of a hundred thousand
MARKER_S = 8 * DAY_S  # longer than a run lives that nothing happens in
OTHER = "other"
NO_NODE = "none"
_BOUNDS_US = [round(bound * 1e6) for bound in LAG_BOUNDS_S]
_POINTS = {"received": ("received",), "stopped": ("stopped",), "both": ("received", "stopped")}


class Field(NamedTuple):
    """A counter's field in three parts: of the middle one, an agent node, nobody knows the values beforehand."""

    before: str
    agent_node: str = ""
    after: str = ""


class Counts:
    """The counters of one namespace."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def carry(self, run_id: str) -> None:
        """Adds what a run has counted to the counts of all; whoever does it, and however often."""
        commands, scripts, keys = self._backend.commands, self._backend.scripts, self._backend.keys
        batch_key = keys.counts_batch(run_id)
        code, *answer = await commands.call(scripts.collect_counts, (keys.run(run_id).counts, batch_key))
        if code == "nothing":
            return
        batch_id, collected_us = answer
        total, read_id = await self._add_up(batch_key)
        if read_id != batch_id:
            return  # somebody else has carried it meanwhile
        await signals.reached("counts.collected", run_id)
        marker = keys.counted_batch(run_id, batch_id)
        code, *_ = await commands.call(
            scripts.add_counts,
            (keys.counts, keys.nodes, marker),
            *(text for field, number in total.items() for text in (*field, str(number))),
            collected_us=collected_us,
            most_nodes=str(AGENT_NODES),
            marker_ttl_s=str(MARKER_S),
        )
        await signals.reached("counts.added", run_id)
        if code != "stale":
            await commands.call(scripts.drop_counts, (batch_key,), batch_id=batch_id)
            await commands.command("EXPIRE", marker, HOUR_S)

    async def _add_up(self, batch_key: str) -> tuple[Counter[Field], str]:
        """What the batch comes to, and its id: its last line."""
        command = self._backend.commands.command
        nodes, first = await asyncio.gather(command("SMEMBERS", self._backend.keys.nodes), self._page(batch_key, 0))
        labelled, total, batch_id, call = set(nodes), Counter[Field](), "", list[str]()
        async for lines in self._lines(batch_key, first):
            for line in lines:
                if line[0] == "@":
                    _add(call, int(line[1:]), total, labelled)
                    call.clear()
                elif line[0] == "#":
                    batch_id = line[1:]
                else:
                    call.append(line)
        return total, batch_id

    async def _lines(self, batch_key: str, page: str) -> AsyncIterator[list[str]]:
        """A batch does not change any more, so pages of it fit together: `page` is the first. All of it is ASCII."""
        at, rest = 0, ""
        while page:
            *lines, rest = (rest + page).split("\n")
            yield lines
            at += PAGE_BYTES
            page = await self._page(batch_key, at) if len(page) == PAGE_BYTES else ""

    async def _page(self, batch_key: str, at: int) -> str:
        text: str = await self._backend.commands.command("GETRANGE", batch_key, at, at + PAGE_BYTES - 1)
        return text

    async def read(self) -> dict[str, int]:
        """The counters: field → number. broker/server/metrics.py says which metric a field belongs to."""
        flat = await self._backend.commands.command("HGETALL", self._backend.keys.counts)
        return {field: int(number) for field, number in zip(flat[0::2], flat[1::2], strict=True)}


def bucket_of(lag_us: int) -> int:
    """Number of the first bound that is not below the lag; one more than there are where all are."""
    return bisect_left(_BOUNDS_US, lag_us)


def _add(lines: Iterable[str], at_us: int, total: Counter[Field], labelled: set[str]) -> None:
    """The lines of one script call, and its time."""
    for line in lines:
        what, *rest = line.split("|")
        if what not in _POINTS:
            total[Field(line)] += 1
            continue
        node, disposition, published_us = rest
        node, lag_us = _label(node or NO_NODE, labelled), max(0, at_us - int(published_us))
        for point in _POINTS[what]:
            total[Field(f"{point}|", node, f"|{disposition}|{bucket_of(lag_us)}")] += 1
            total[Field(f"{point}|", node, f"|{disposition}|sum_us")] += lag_us


def _label(agent_node: str, labelled: set[str]) -> str:
    """At most twice the bound leave this process, whatever a run has; add_counts decides which of them get a label."""
    if agent_node in labelled:
        return agent_node
    if len(labelled) >= 2 * AGENT_NODES:
        return OTHER
    labelled.add(agent_node)
    return agent_node
