"""How quickly cancels were heard and obeyed in the last minute: read from Redis, the same by every replica."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broker.cancel.report import AckLag, Lag, percentiles
from broker.cancel.worklist import Listed
from broker.protocol.records import AckRecord, IntentRecord, stamp
from broker.protocol.states import Disposition
from broker.store.reads import Reads

WINDOW_S = 60
POINT_S = 2
RUNS_READ = 20
"""The runs whose cancels are newest; of each about 1,000 acks: a look costs the same, however much is cancelled."""


@dataclass(frozen=True, slots=True)
class Recent:
    """`points` has the slowest hearing of each two seconds in milliseconds, oldest first, None where nobody was told.

    `sampled`: there were more runs or acks than are looked at.
    """

    lag: AckLag
    points: tuple[float | None, ...]
    sampled: bool


async def recent_lag(reads: Reads, listed: Listed) -> Recent:
    """What was heard, or ended, in the last minute, of the cancels that were accepted last."""
    begin_us = listed.now_us - WINDOW_S * 1_000_000
    runs = _runs(listed, begin_us)
    heard: list[tuple[int, float]] = []
    stopped: list[tuple[int, float]] = []
    for acks, intents in await asyncio.gather(*(_of_run(reads, run_id) for run_id in runs[:RUNS_READ])):
        for one in intents:
            _add(heard, intents[one], acks[one], begin_us, end=False)
            _add(stopped, intents[one], acks[one], begin_us, end=True)
    lag = AckLag(_lag(heard), _lag(stopped))
    return Recent(lag, _points(heard, begin_us), len(runs) > RUNS_READ)


async def _of_run(reads: Reads, run_id: str) -> tuple[dict[str, AckRecord], dict[str, IntentRecord]]:
    acks = await reads.sample_acks(run_id)
    return acks, await reads.some_intents(run_id, list(acks))


def _runs(listed: Listed, begin_us: int) -> list[str]:
    """Runs with a cancel that is open, or was settled in the window; the newest first."""
    newest: dict[str, int] = {}
    for run_id, operation in (*listed.open, *listed.settled):
        if (operation.settled_at_us or begin_us) >= begin_us:
            newest[run_id] = max(operation.requested_at_us, newest.get(run_id, 0))
    return sorted(newest, key=lambda run_id: -newest[run_id])


def _add(found: list[tuple[int, float]], intent: IntentRecord, ack: AckRecord, begin_us: int, *, end: bool) -> None:
    """A proof of death is no answer, and what the cancel settled itself has no lag."""
    if ack.disposition == Disposition.NEVER_STARTED:
        return
    ended_us = stamp(ack.settled_at_us) if ack.disposition != Disposition.LOST else None
    at_us = ended_us if end else stamp(ack.received_at_us) or ended_us
    if at_us is not None and at_us >= begin_us and at_us != intent.published_at_us:
        found.append((at_us, max(0, at_us - intent.published_at_us) / 1000))


def _lag(found: list[tuple[int, float]]) -> Lag:
    return percentiles([lag_ms for _, lag_ms in found])


def _points(heard: list[tuple[int, float]], begin_us: int) -> tuple[float | None, ...]:
    points: list[float | None] = [None] * (WINDOW_S // POINT_S)
    for at_us, lag_ms in heard:
        at = min(len(points) - 1, (at_us - begin_us) // (POINT_S * 1_000_000))
        points[at] = max(lag_ms, points[at] or 0.0)
    return tuple(points)
