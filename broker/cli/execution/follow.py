"""A cancel that was accepted: who is still running, now or when the wait is over. Ctrl-C ends the waiting only."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass

from broker.cli.client import Client
from broker.cli.execution.request import STILL_RUNNING
from broker.cli.loading import INTERRUPTED
from broker.cli.terminal import can_draw, progress, say
from broker.cli.view.report import progress_text
from broker.cli.view.words import duration
from broker.cli.waiting import Report, follow_report
from broker.errors import BrokerError


@dataclass(frozen=True, slots=True)
class Ended:
    """How the following ended: with which report, if any came, and the exit code."""

    report: Report | None
    exit_code: int


def follow(client: Client, path: str, wait_s: float | None, see: str) -> Ended:
    """`path` is the report's endpoint, `see` the command that shows it later. Without `wait_s` just one look."""
    if wait_s is None:
        return _look(client, path)
    report: Report | None
    try:
        report = _wait(client, path, wait_s)
    except KeyboardInterrupt:
        report = None  # left outside: an exit from here would look like a Ctrl-C that nobody has answered
    if report is None:
        say(f"the cancel goes on; see: {see}")
        return Ended(None, INTERRUPTED)
    return Ended(report, 0 if report.answer.state == "settled" else STILL_RUNNING)


def see_report(run_id: str | None, execution_id: str | None, cancel_id: str | None) -> str:
    """The command that shows what became of a cancel."""
    if run_id is None:
        return shlex.join(["broker", "execution", "show", execution_id or ""])
    return shlex.join(["broker", "run", "report", run_id, *(("--cancel-id", cancel_id) if cancel_id else ())])


def _look(client: Client, path: str) -> Ended:
    """The cancel is done: that its report cannot be read does not undo it."""
    from broker.protocol.http.answers import ReportAnswer

    try:
        return Ended(client.get_at(ReportAnswer, path), 0)
    except BrokerError as error:
        say(f"cancelled, but its report could not be read: {error}")
        return Ended(None, 0)


def _wait(client: Client, path: str, wait_s: float) -> Report:
    began_at = time.monotonic()
    with progress() as line:

        def tell(report: Report) -> None:
            waited_ms = (time.monotonic() - began_at) * 1000
            line(f"{progress_text(report.answer)}; {duration(waited_ms)} of {wait_s:g} s")

        return follow_report(client, path, {}, wait_s=wait_s, live=can_draw(sys.stderr), on_report=tell, on_gap=line)
