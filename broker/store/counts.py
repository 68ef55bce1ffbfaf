"""What is counted of cancels, for all runs: carried here from the runs, each count exactly once.

A script counts where it applies something (include/counts.lua), in a hash of the run: in Cluster it reaches no other
slot. Neither could whoever called it add to the counts of all by the script's answer: a process that dies between
the two, or a connection that breaks and has the call answered `repeat`, would lose counts, and a HINCRBY sent again
would count twice. So a run's counts go as a batch, in three steps, by whoever looks at one of its operations:

1. collect_counts takes the run's hash aside under an id, or answers with the batch that is still there;
2. add_counts adds it in the slot of all, with a marker of that id: a second time changes nothing;
3. drop_counts drops it, and the marker gets an early end.

Whoever dies after 1 or 2 leaves the batch, and the next look carries it on; two that carry the same batch add it
once. The marker outlives the run until step 3 is answered; after that nobody can read the batch again, and
who read it before and then stood still for ten minutes is refused.
What is lost: counts of a run whose keys end before anyone looks (its last look is at most an hour before), and what
Redis itself loses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from broker.observe import signals
from broker.store.backend import Backend
from broker.store.keys import DAY_S, HOUR_S
from broker.store.reads import PAGE

MOST_NODES = 50
MARKER_S = 8 * DAY_S  # longer than a run lives that nothing happens in
OTHER = "other"
NO_NODE = "none"
_BATCH_ID = "#"


class Counts:
    """The counters of one namespace."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def carry(self, run_id: str) -> None:
        """Adds what a run has counted to the counts of all; whoever does it, and however often."""
        backend, keys = self._backend, self._backend.keys
        code, *answer = await backend.on_run(backend.scripts.collect_counts, run_id)
        if code == "nothing":
            return
        batch_id, collected_us = answer
        batch = await self._batch(run_id)
        if batch.pop(_BATCH_ID, None) != batch_id:
            return  # somebody else has carried it meanwhile
        await signals.reached("counts.collected", run_id)
        marker = keys.counted_batch(run_id, batch_id)
        known = await backend.commands.command("SMEMBERS", keys.nodes)
        code, *_ = await backend.commands.call(
            backend.scripts.add_counts,
            (keys.counts, keys.nodes, marker),
            *(text for field in _bounded(batch, known) for text in field),
            collected_us=collected_us,
            most_nodes=str(MOST_NODES),
            marker_ttl_s=str(MARKER_S),
        )
        await signals.reached("counts.added", run_id)
        if code != "stale":
            await backend.on_run(backend.scripts.drop_counts, run_id, batch_id=batch_id)
            await backend.commands.command("EXPIRE", marker, HOUR_S)

    async def _batch(self, run_id: str) -> dict[str, str]:
        """A batch does not change any more, so a scan in pages reads all of it."""
        found: dict[str, str] = {}
        cursor = "0"
        while True:
            cursor, page = await self._backend.commands.command(
                "HSCAN", self._backend.run(run_id).counts_batch, cursor, "COUNT", PAGE
            )
            found.update(zip(page[0::2], page[1::2], strict=True))
            if str(cursor) == "0":
                return found

    async def read(self) -> dict[str, int]:
        """The counters: field → number. Fields are named in broker/observe/metrics.py."""
        flat = await self._backend.commands.command("HGETALL", self._backend.keys.counts)
        return {field: int(number) for field, number in zip(flat[0::2], flat[1::2], strict=True)}


def _bounded(batch: Mapping[str, str], known: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """Fields in three parts, so that a run of a hundred thousand agent nodes costs no more than one of fifty."""
    labelled, total = set(known), Counter[tuple[str, str, str]]()
    for field, number in sorted(batch.items()):
        point, _, rest = field.partition("|")
        if "|" not in rest:
            total[field, "", ""] += int(number)
            continue
        node, _, behind = rest.partition("|")
        node = node or NO_NODE
        if node not in labelled:
            if len(labelled) < 2 * MOST_NODES:
                labelled.add(node)
            else:
                node = OTHER
        total[f"{point}|", node, f"|{behind}"] += int(number)
    return [(*parts, str(number)) for parts, number in total.items()]
