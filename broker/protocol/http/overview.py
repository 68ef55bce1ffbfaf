"""What is looked at first when something is wrong: one answer for a screen that refreshes itself."""

from __future__ import annotations

from broker.protocol.http.answers import AckLagAnswer, Answer, CancellationAnswer, WorkerAnswer


class RecentLagAnswer(Answer):
    """`points` has the slowest hearing of each `point_s` seconds, oldest first; null where nobody was heard."""

    window_s: int
    point_s: int
    points: list[float | None]
    ack_lag: AckLagAnswer
    sampled: bool


class OverviewAnswer(Answer):
    """`cancellations` lists the oldest 100 open ones, `workers` 100: those silent longest, then the others by id.

    `open`, `overdue`, `outstanding` and `causes` are what /metrics tells: over all open cancels, each execution once;
    `not_read` are stragglers beyond the oldest 1,000. Workers are counted up to 1,000; `truncated`: there are more, or
    more than 10,000 cancels. It is kept for a second, longer where it takes long to read.
    """

    open: int
    overdue: int
    outstanding: int
    oldest_age_ms: int
    causes: dict[str, int]
    recent: RecentLagAnswer
    cancellations: list[CancellationAnswer]
    workers_alive: int
    workers_silent: int
    held: int
    workers: list[WorkerAnswer]
    truncated: bool
