"""Waiting longer than one long poll: asks the report again and again, and survives a server that restarts."""

from __future__ import annotations

import time
from collections.abc import Callable

from broker.cli.client import Client, Query, Reply
from broker.errors import BrokerUnavailable
from broker.protocol.http.answers import ReportAnswer
from broker.protocol.http.requests import WAIT_LIMIT_MS

RETRY_PAUSE_S = 1.0
UNANSWERED_S = 60.0
"""How long a watch without an end goes on asking a server that does not answer."""
LIVE_POLL_S = 1.0
"""A poll while somebody looks: as often as what they see should change."""

Report = Reply[ReportAnswer]


def follow_report(
    client: Client,
    path: str,
    query: Query,
    *,
    wait_s: float | None,
    live: bool,
    on_report: Callable[[Report], None],
    on_gap: Callable[[str], None],
) -> Report:
    """The last report: the one that is settled, or the one when `wait_s` (None: no end) was over.

    `on_report` is told each, also the first, and `on_gap` why one could not be had: a server that is away is asked
    again. Raises BrokerUnavailable when it is still away at the end, and whatever the first look raises.
    """
    clock = _Clock(wait_s)
    report = client.get_at(ReportAnswer, path, query)
    on_report(report)
    while report.answer.state != "settled" and clock.left_s > 0:
        poll_s = min(clock.left_s, LIVE_POLL_S if live else WAIT_LIMIT_MS / 1000)
        try:
            report = client.get_at(ReportAnswer, path, {**query, "wait_ms": _ms(poll_s)}, poll_s)
        except BrokerUnavailable as error:
            if clock.gives_up():
                raise
            on_gap(str(error))
            time.sleep(max(0.0, min(RETRY_PAUSE_S, clock.left_s)))
            continue
        clock.answered()
        on_report(report)
    return report


class _Clock:
    def __init__(self, wait_s: float | None) -> None:
        self._ends_at = None if wait_s is None else time.monotonic() + wait_s
        self.answered()

    @property
    def left_s(self) -> float:
        return float("inf") if self._ends_at is None else self._ends_at - time.monotonic()

    def answered(self) -> None:
        self._answered_at = time.monotonic()

    def gives_up(self) -> bool:
        """Whether an unanswered poll was the last: the wait is over, or has no end and the server is gone for long."""
        if self._ends_at is None:
            return time.monotonic() - self._answered_at > UNANSWERED_S
        return self.left_s <= 0


def _ms(wait_s: float) -> int:
    return max(1, min(WAIT_LIMIT_MS, round(wait_s * 1000)))
