"""Plain lines, for everything that is no terminal: one line per event of note."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from broker.cancel.report import CancelReport
from broker.cli.demo import words
from broker.cli.demo.words import Scene

PROGRESS_EVERY_S = 1.0


class PlainView:
    """Prints lines with the seconds since the start."""

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._progress_at = started_at

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def open(self, scene: Scene) -> None:
        self._scene = scene
        for line in words.opening(scene):
            _print(line)

    def note(self, text: str) -> None:
        _print(f"{time.monotonic() - self._started_at:6.1f} s  {text}")

    def draw(self, *, cancelled: bool) -> None:
        """A line of progress every second; what happens after the cancel comes as notes."""
        if not cancelled and time.monotonic() - self._progress_at >= PROGRESS_EVERY_S:
            self._progress_at = time.monotonic()
            self.note(words.progress(self._scene))

    def close(self, report: CancelReport) -> None:
        tree = self._scene.tree
        _print(f"report of cancel {report.cancel_id}")
        _print(f"  {words.totals(report)}")
        for row in words.disposition_rows(report):
            _print(f"  {row.word:<14}{row.executions:>5}  {row.meaning}")
        for word, lag in words.lag_rows(report) if report.totals.cancelled else ():
            _print(
                f"  ack lag {word:<9} p50 {lag.p50_ms:,.0f} ms, p99 {lag.p99_ms:,.0f} ms, max {lag.max_ms:,.0f} ms"
                f" (n = {lag.count})"
            )
        for line in words.verdict(report, tree):
            _print(f"  {line}")
        for one in report.still_running[: words.NAMED_AT_MOST]:
            _print("  " + words.still_running(tree.nodes[one.execution_id]))
        _print("words")
        for word, meaning in words.MEANINGS.items():
            _print(f"  {word:<14}{meaning}")


def _print(line: str) -> None:
    print(line.encode("ascii", "replace").decode(), file=sys.stdout, flush=True)
