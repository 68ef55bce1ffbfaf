"""The picture on a terminal: the tree of directories with both axes, progress below it, events above it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from broker.cancel.report import CancelReport
from broker.cli.demo import words
from broker.cli.demo.directory import shown
from broker.cli.demo.marks import Marks
from broker.cli.demo.rows import choose, preorder
from broker.cli.demo.tree import Node, Tree
from broker.cli.demo.words import Scene
from broker.protocol.states import Disposition

AROUND_TREE = 8
"""Lines of the picture that are not rows of the tree."""
ROWS_AT_END = 12
WIDEST, NARROW = 110, 100
_STATUS = {"running": "cyan", "cancelled": "yellow", "failed": "red"}
_EMPHASIS = {"cancel": "bold yellow", "still": "bold red", "spawn": "red", "settled": "green", "worker": "bold red"}


class LiveView:
    """Draws with Rich; leaves the cursor and the last picture behind, however it ends."""

    def __init__(self, started_at: float, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._marks = Marks.for_console(self._console)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._started_at = started_at
        self._shown: list[Node] = []

    def __enter__(self) -> Self:
        self._live.start()
        self._live.update(Text("starting the fleet ...", style="dim"), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def open(self, scene: Scene) -> None:
        self._scene = scene
        self._console.print(Rule(Text("broker demo", style="bold"), style="dim", characters=self._marks.rule))
        for line in words.opening(scene):
            key, _, text = line.partition(" ")
            self._console.print(Text.assemble((f"{key:<7}", "bold cyan"), text.strip()))

    def note(self, text: str) -> None:
        style = _EMPHASIS.get(text.partition(" ")[0], "")
        seconds = f"{time.monotonic() - self._started_at:6.1f} s  "
        self._console.print(Text.assemble((seconds, "dim"), (text, style)))

    def draw(self, *, cancelled: bool) -> None:
        tree = self._scene.tree
        budget = max(3, self._console.height - AROUND_TREE)
        self._shown = choose(tree, budget, cancelled=cancelled)
        self._live.update(self._picture(cancelled), refresh=True)

    def close(self, report: CancelReport) -> None:
        self._shown = choose(self._scene.tree, min(ROWS_AT_END, max(3, self._console.height - AROUND_TREE)), True)
        self._live.update(self._picture(True), refresh=True)
        self._live.stop()
        self._console.print(self._report(report))

    # --- the picture ------------------------------------------------------------------------------

    def _picture(self, cancelled: bool) -> RenderableType:
        tree = self._scene.tree
        table = Table(box=None, padding=(0, 2, 0, 0), width=min(WIDEST, self._console.width), header_style="dim")
        table.add_column("directory", ratio=1, no_wrap=True, overflow="ellipsis")
        if not self._narrow:
            table.add_column("files", justify="right", no_wrap=True, width=11)
        table.add_column("on", no_wrap=True, width=2)
        table.add_column("status", no_wrap=True, width=9)
        table.add_column("what really happened", no_wrap=True, width=32, overflow="ellipsis")
        for prefix, node in preorder(self._shown, self._marks):
            table.add_row(*self._row(prefix, node))
        hidden = len(tree.nodes) - len(self._shown)
        more = Text(f"  and {hidden} more" if hidden else "", style="dim")
        return Group(Text(), table, more, *self._footer(cancelled))

    def _row(self, prefix: str, node: Node) -> tuple[Text, ...]:
        name = shown(node.name) if node.parent else shown(self._scene.root.name)
        files = f"{node.hashed:,}/{node.files:,}" if node.files else ""
        style = "" if node.job.in_flight or node.covered else "dim"
        return (
            Text.assemble((prefix, "dim"), (name, "bold" if node.is_stubborn else style)),
            *(() if self._narrow else (Text(files, style="dim"),)),
            Text(node.worker, style="dim"),
            Text(node.status, style=_STATUS.get(node.status, "dim")),
            self._marks.of(node),
        )

    def _footer(self, cancelled: bool) -> tuple[RenderableType, ...]:
        tree, total = self._scene.tree, self._scene.total
        counts = tree.dispositions()
        settled = sum(number for word, number in counts.items() if word.settled)
        bars = Table.grid(padding=(0, 2))
        for _ in range(3):
            bars.add_column(no_wrap=True)
        files = f"{tree.hashed:,} of {total.files:,} files, {words.size(tree.size)}"
        bars.add_row(Text("hashed"), self._bar(tree.hashed, total.files), files)
        if cancelled:
            bars.add_row(Text("settled"), self._bar(settled, sum(counts.values()) or 1), self._summary(tree))
        else:
            spawned = f"{tree.directories:,} of {total.directories:,} directories, {tree.in_flight} in flight"
            bars.add_row(Text("spawned"), self._bar(tree.directories, total.directories), spawned)
            return (bars, Text())
        return (bars, self._refused(tree))

    @property
    def _narrow(self) -> bool:
        return self._console.width < NARROW

    def _bar(self, done: int, total: int) -> ProgressBar:
        return ProgressBar(total=max(1, total), completed=min(done, max(1, total)), width=12 if self._narrow else 32)

    def _summary(self, tree: Tree) -> Text:
        text = Text()
        for word, number in tree.dispositions().items():
            glyph, style = self._marks.look(word)
            text.append(f"{glyph} {number} {word}  ", style)
        return text

    def _refused(self, tree: Tree) -> Text:
        running = tree.still_running
        named = words.place(running[0]) if len(running) == 1 else ""
        text = Text()
        if running:
            text.append(f"{self._marks.warning} still running: {named or len(running)}  ", "bold red")
        if tree.refused_at_gate:
            text.append(f"{self._marks.refused} {tree.refused_at_gate} spawns refused at the gate", "red")
        return text

    # --- the report -------------------------------------------------------------------------------

    def _report(self, report: CancelReport) -> RenderableType:
        ends = Table(box=box.SIMPLE_HEAD, header_style="bold")
        ends.add_column("what really happened")
        ends.add_column("executions", justify="right")
        ends.add_column("which means", style="dim")
        for row in words.disposition_rows(report):
            glyph, style = self._marks.look(Disposition(row.word))
            ends.add_row(Text(f"{glyph} {row.word}", style), str(row.executions), row.meaning)
        lags = Table(box=box.SIMPLE_HEAD, header_style="bold")
        lags.add_column("ack lag")
        for title in ("p50", "p99", "max", "samples"):
            lags.add_column(title, justify="right")
        for word, lag in words.lag_rows(report):
            lags.add_row(word, *(f"{ms:,.0f} ms" for ms in (lag.p50_ms, lag.p99_ms, lag.max_ms)), str(lag.count))
        meanings = Table.grid(padding=(0, 2))
        for word, meaning in words.MEANINGS.items():
            meanings.add_row(Text(word, "bold"), Text(meaning, "dim"))
        tree = self._scene.tree
        good = "bold green" if report.settled else "bold red"
        verdict = [Text(line, good if not at else "") for at, line in enumerate(words.verdict(report, tree))]
        named = [words.still_running(tree.nodes[one.execution_id]) for one in report.still_running]
        return Group(
            Rule(Text(f"report of cancel {report.cancel_id}", "bold"), style="dim", characters=self._marks.rule),
            Text(words.totals(report)),
            *((ends, lags) if report.totals.cancelled else ()),
            *verdict,
            *(Text(line, "red") for line in named[: words.NAMED_AT_MOST]),
            Padding(meanings, (1, 0, 0, 0)),
        )
