"""The report of a cancel, and the executions that are still running."""

from __future__ import annotations

from collections import Counter

from broker.cli.terminal import Paint
from broker.cli.view.words import count, counts, disposition, duration, meaning, quoted
from broker.cli.visible import visible
from broker.protocol.http.answers import LagAnswer, ReportAnswer, StragglerAnswer
from broker.protocol.states import Disposition

SILENT_MS = 15_000
"""The life of a heartbeat. An older one is said whatever the cause: a worker that has heard may die as well."""


def report_lines(report: ReportAnswer, paint: Paint) -> list[str]:
    """Everything that is known of one cancel."""
    return [
        _title(report, paint),
        *_asked(report),
        _totals(report),
        *_dispositions(report, paint),
        *_lags(report),
        *straggler_lines(report, paint),
    ]


def straggler_lines(report: ReportAnswer, paint: Paint) -> list[str]:
    """`Still running: <n>`, and one line each."""
    running = report.totals.still_running
    lines = [paint(f"Still running: {running}", "red" if running else "green", bold=True)]
    lines += [f"  {_straggler(one, paint)}" for one in report.still_running]
    if (more := running - len(report.still_running)) > 0:
        lines.append(f"  and {more:,} more, not as deep")
    return lines


def progress_text(report: ReportAnswer) -> str:
    """The state of things in one line."""
    totals = report.totals
    if not totals.still_running:
        return f"{count(totals.settled, 'execution')} settled, {visible(report.state)}"
    causes = Counter(one.cause for one in report.still_running)
    partly = " among the deepest" if report.still_running_truncated else ""
    return (
        f"{totals.settled:,} of {count(totals.settled + totals.still_running, 'execution')} settled,"
        f" still running: {totals.still_running:,} ({counts(causes)}{partly})"
    )


def target_of(scope: str, target: str | None, run_id: str | None) -> str:
    """`run nightly`, `subtree planner of run nightly`, `execution solo`."""
    run = f"run {visible(run_id)}" if run_id else ""
    if target is None:
        return run or visible(scope)
    return f"{visible(scope)} {visible(target)}" + (f" of {run}" if run else "")


def _title(report: ReportAnswer, paint: Paint) -> str:
    state = "overdue" if report.overdue and report.state != "settled" else report.state
    return (
        f"Cancel {visible(report.cancel_id)} of {target_of(report.scope, report.target, report.run_id)}:"
        f" {paint(visible(state), 'green' if report.state == 'settled' else 'red', bold=True)}"
    )


def _asked(report: ReportAnswer) -> list[str]:
    by = f" by {visible(report.requested_by)}" if report.requested_by else ""
    why = f", reason {quoted(report.reason)}" if report.reason else ""
    end = f"settled {visible(report.settled_at)}" if report.settled_at else f"deadline {visible(report.deadline_at)}"
    return [f"Requested {visible(report.requested_at)}{by}{why}; {end}"]


def _totals(report: ReportAnswer) -> str:
    totals = report.totals
    return (
        f"{count(totals.executions, 'execution')}: {totals.cancelled} cancelled, {totals.skipped} skipped,"
        f" {totals.errors} errors, {totals.settled} settled"
    )


def _dispositions(report: ReportAnswer, paint: Paint) -> list[str]:
    lines = []
    for word, number in sorted(report.dispositions.items(), key=lambda item: (-item[1], item[0])):
        said = Disposition(word).meaning if word in tuple(Disposition) else ""
        lines.append(f"  {disposition(paint, word, None)}{' ' * (14 - len(word))}{number:>7,}  {said}".rstrip())
    return lines


def _lags(report: ReportAnswer) -> list[str]:
    pairs = (("received", report.ack_lag.received), ("stopped", report.ack_lag.stopped))
    return [f"  ack lag {word:<9}{_lag(lag)}" for word, lag in pairs if lag.count]


def _lag(lag: LagAnswer) -> str:
    return f"p50 {lag.p50_ms:,.1f} ms, p99 {lag.p99_ms:,.1f} ms, max {lag.max_ms:,.1f} ms (n = {lag.count:,})"


def _straggler(one: StragglerAnswer, paint: Paint) -> str:
    where = f"on {visible(one.worker_id)}" if one.worker_id else "on no worker"
    group = f" ({visible(one.agent_node_id)})" if one.agent_node_id else ""
    why = f" ({said})" if (said := meaning(one.cause)) else ""
    facts = [_told(one), f"depth {one.depth}"]
    if one.attempts > 1:
        facts.insert(1, f"{one.attempts} attempts")
    if one.overdue:
        facts.insert(0, "overdue")
    if one.worker_last_seen_ms is not None and one.worker_last_seen_ms > SILENT_MS:
        facts.append(f"worker last seen {duration(one.worker_last_seen_ms)} ago")
    if one.detail:
        facts.append(quoted(one.detail))
    cause = paint(visible(one.cause), "red")
    return f"{paint(visible(one.execution_id), bold=True)} {where}{group}: {cause}{why}, {', '.join(facts)}"


def _told(one: StragglerAnswer) -> str:
    if one.published_at is None and not one.attempts:
        return f"not told yet, asked for {duration(one.age_ms)} ago"
    return f"told {duration(one.age_ms)} ago"
