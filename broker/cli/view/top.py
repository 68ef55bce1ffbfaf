"""One frame of `broker top`: as many lines and columns as the terminal has, the worst first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from broker.cli.terminal import Paint
from broker.cli.view.report import target_of
from broker.cli.view.words import count, counts, duration
from broker.cli.visible import visible
from broker.protocol.http.answers import CancellationAnswer, LagAnswer, WorkerAnswer
from broker.protocol.http.overview import OverviewAnswer

T = TypeVar("T")
Row = tuple[tuple[str, ...], str | None]
"""Cells and a colour."""
_BARS, _PLAIN_BARS = "▁▂▃▄▅▆▇█", ".:-=+*#@"
COUNTED = 1_000
"""Workers, by the server."""
_HEAD = 7
"""Lines above the two lists, their heads included."""


def top_lines(seen: OverviewAnswer, server: str, paint: Paint, *, width: int, height: int) -> list[str]:
    """At most `height` lines of at most `width` columns."""
    left = max(2, height - _HEAD)
    workers = min(len(seen.workers), max(left // 3, left - len(seen.cancellations)))
    cancels = min(len(seen.cancellations), left - workers)
    lines = [
        *(_cut(text, width, paint, colour, bold) for text, colour, bold in _title(seen, server, paint)),
        *_table(_CANCEL_HEAD, seen.cancellations[:cancels], _cancel, width, paint),
        *_table(_WORKER_HEAD, seen.workers[:workers], _worker, width, paint),
    ]
    return lines[:height]


def _title(seen: OverviewAnswer, server: str, paint: Paint) -> list[tuple[str, str | None, bool]]:
    bad = seen.outstanding > 0
    running = f"{count(seen.outstanding, 'execution')} still running"
    if bad:
        running += f", oldest {duration(seen.oldest_age_ms)}"
    opened = count(seen.open, "open cancel") + (" or more" if seen.truncated else "")
    lag = seen.recent.ack_lag
    return [
        (f"broker top  {visible(server)}   q leaves", None, True),
        (f"{opened}, {seen.overdue} overdue; {running}", "red" if bad else "green", True),
        (f"causes: {counts(seen.causes) or 'none'}", "red" if bad else None, False),
        (_workers(seen), "red" if seen.workers_silent else None, False),
        (f"ack lag {seen.recent.window_s} s {spark(seen.recent.points, paint)} {_lag('received', lag.received)},"
         f" {_lag('stopped', lag.stopped)}", None, False),
    ]  # fmt: skip


def spark(points: Sequence[float | None], paint: Paint) -> str:
    """A bar a point, by powers of ten from 0.1 ms to 1,000 s; a blank where nobody was heard."""
    bars = _BARS if paint.unicode else _PLAIN_BARS
    return "".join(" " if one is None else bars[_step(one, len(bars))] for one in points)


def _workers(seen: OverviewAnswer) -> str:
    more = " or more" if seen.truncated and seen.workers_alive + seen.workers_silent >= COUNTED else ""
    return f"workers: {seen.workers_alive:,} alive, {seen.workers_silent:,} silent{more}, holding {seen.held:,}"


def _step(lag_ms: float, steps: int) -> int:
    return max(0, min(steps - 1, math.floor(math.log10(max(lag_ms, 0.1)) + 1)))


def _lag(word: str, lag: LagAnswer) -> str:
    return f"{word} p50 {lag.p50_ms:,.0f} p99 {lag.p99_ms:,.0f} ms" if lag.count else f"{word} -"


_CANCEL_HEAD = ("age", "running", "state", "of", "by", "causes")
_WORKER_HEAD = ("heart", "held", "state", "worker", "agent node", "")


def _cancel(one: CancellationAnswer) -> Row:
    state = "overdue" if one.overdue else visible(one.state)
    of = target_of(one.scope, one.target, one.run_id)
    row = (duration(one.oldest_age_ms), f"{one.outstanding:,}", state, of, visible(one.requested_by or "-"))
    return (*row, counts(one.causes) or "-"), "red" if one.overdue else "yellow" if one.outstanding else None


def _worker(one: WorkerAnswer) -> Row:
    held = "?" if one.held is None else f"{one.held:,}"
    row = (duration(one.last_seen_ms), held, "alive" if one.alive else "silent", visible(one.worker_id))
    return (*row, visible(one.agent_node_id or "-"), ""), None if one.alive else "red"


def _widths(width: int) -> tuple[int, ...]:
    """Of all columns but the last; what a wide window has to spare goes to the names."""
    return 11, 7, 8, max(28, min(60, width - 68)), 12


def _table(head: tuple[str, ...], rows: Sequence[T], row_of: Callable[[T], Row], width: int, paint: Paint) -> list[str]:
    widths = _widths(width)
    lines = [_cut(_row(head, widths), width, paint, None, True)]
    for one in rows:
        cells, colour = row_of(one)
        lines.append(_cut(_row(cells, widths), width, paint, colour, False))
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    *first, last = cells
    return "  ".join([*(_fit(one, size) for one, size in zip(first, widths, strict=True)), last]).rstrip()


def _fit(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else text[: size - 1] + "~"


def _cut(text: str, width: int, paint: Paint, colour: str | None, bold: bool) -> str:
    return paint(text[:width], colour, bold=bold)
