"""Waiting longer than one long poll: asks the report again and again, and survives a server that restarts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from broker.cli.client import Client, Query, Reply
from broker.cli.news import News
from broker.errors import BrokerUnavailable
from broker.protocol.http.answers import ReportAnswer
from broker.protocol.http.requests import WAIT_LIMIT_MS

RETRY_PAUSE_S = 1.0
UNANSWERED_S = 60.0
"""How long a watch without an end goes on asking a server that does not answer."""
LIVE_POLL_S = 1.0
"""A poll while somebody looks: as often as what they see should change."""

LOOK_PAUSE_S = 0.2
"""Between two looks at the report, however much happens."""

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
    news: News | None = None,
) -> Report:
    """The last report: the one that is settled, or the one when `wait_s` (None: no end) was over.

    `on_report` is told each, also the first, and `on_gap` why one could not be had, once while it stays the same: a
    server that is away is asked again. While `news` has a stream it is asked when something has happened, else by
    long polls. Raises BrokerUnavailable when it is still away at the end, and whatever the first look raises.
    """
    report = client.get_at(ReportAnswer, path, query)
    on_report(report)
    clock = _Clock(wait_s)
    gap: BrokerUnavailable | None = None
    while report.answer.state != "settled" and clock.left_s > 0:
        poll_s = min(clock.left_s, LIVE_POLL_S if live else WAIT_LIMIT_MS / 1000)
        patience = _patience(news, clock, poll_s)
        try:
            report = client.get_at(ReportAnswer, path, {**query, **patience}, poll_s)
        except BrokerUnavailable as error:
            said, gap = str(gap), error
            if clock.gives_up():
                break
            if str(error) != said:
                on_gap(str(error))
            clock.pause()
            continue
        gap = None
        since_s = clock.answered()
        on_report(report)
        if report.answer.state != "settled" and since_s < poll_s / 2 and patience:
            clock.pause()  # a server that is about to stop answers at once
    if gap is not None:
        raise gap
    return report


def _patience(news: News | None, clock: _Clock, poll_s: float) -> Query:
    """Returns when there is news, with nothing to ask for; without a stream, with how long the server is to wait."""
    if news is None or not news.streaming:
        return {"wait_ms": _ms(poll_s)}
    clock.pause(LOOK_PAUSE_S)  # one look for what happens together
    news.wait(min(clock.left_s, poll_s))
    return {}


class _Clock:
    """How long to go on. `wait_s` None: as long as somebody answers."""

    def __init__(self, wait_s: float | None) -> None:
        self._answered_at = time.monotonic()
        self._ends_at = None if wait_s is None else self._answered_at + wait_s

    @property
    def left_s(self) -> float:
        return math.inf if self._ends_at is None else self._ends_at - time.monotonic()

    def answered(self) -> float:
        """Seconds since the answer before."""
        before, self._answered_at = self._answered_at, time.monotonic()
        return self._answered_at - before

    def gives_up(self) -> bool:
        """Whether an unanswered poll was the last: the wait is over, or has no end and the server is gone for long."""
        if self._ends_at is None:
            return time.monotonic() - self._answered_at > UNANSWERED_S
        return self.left_s <= 0

    def pause(self, longest_s: float = RETRY_PAUSE_S) -> None:
        time.sleep(max(0.0, min(longest_s, self.left_s)))


def _ms(wait_s: float) -> int:
    return max(1, min(WAIT_LIMIT_MS, round(wait_s * 1000)))
