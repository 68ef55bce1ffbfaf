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
    """`cancellations` and `workers` list the first of them: the oldest, the silent; the numbers count up to 1,000.

    `causes` counts what is still running by why, over all open cancels.
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
