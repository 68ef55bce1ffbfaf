"""What is worth a line: compares the tree with what was said of it before."""

from __future__ import annotations

import time
from collections.abc import Iterator

from broker.cli.demo import words
from broker.cli.demo.crawl import Crawl
from broker.cli.demo.straggler import GRACE_S
from broker.cli.demo.tree import Job, Node, Tree
from broker.protocol.states import Disposition

REFUSALS_NAMED = 3
LEVELS_NAMED = 12
STRAGGLERS_EVERY_S = 0.7


class Notes:
    """New lines since the last look."""

    def __init__(self, tree: Tree, crawl: Crawl) -> None:
        self._tree = tree
        self._crawl = crawl
        self._refused: set[str] = set()
        self._levels: set[int] = set()
        self._lost = 0
        self._swallowed = False
        self._stragglers_at = 0.0
        self._ended = False
        self._command: set[Disposition] = set()

    def look(self, *, cancelled: bool) -> list[str]:
        lines = [*self._lost_workers()]
        if cancelled:
            lines += [
                *self._settled_levels(),
                *self._swallowing(),
                *self._ignoring(),
                *self._refusals(),
                *self._stragglers(),
            ]
        return lines

    def _lost_workers(self) -> Iterator[str]:
        yield from self._crawl.lost[self._lost :]
        self._lost = len(self._crawl.lost)

    def _settled_levels(self) -> Iterator[str]:
        """Bottom-up, level by level, as the broker proves them."""
        levels: dict[int, list[Node]] = {}
        for node in self._tree.nodes.values():
            if node.covered and node.job is not Job.REFUSED:
                levels.setdefault(node.depth, []).append(node)
        for depth in sorted(levels, reverse=True):
            if depth in self._levels or len(self._levels) >= LEVELS_NAMED:
                continue
            if not any(node.still_running for node in levels[depth]):
                self._levels.add(depth)
                yield f"settled depth {depth}: {_counts(levels[depth])}"

    def _swallowing(self) -> Iterator[str]:
        node = self._crawl.swallowed
        if node is not None and not self._swallowed:
            self._swallowed = True
            yield f"{words.place(node)} swallows its cancel (an `except` too wide) and goes on"
        if node is not None and node.disposition is Disposition.ENDED_ITSELF and not self._ended:
            self._ended = True
            yield f"{words.place(node)} ended by itself, disposition ended_itself"

    def _ignoring(self) -> Iterator[str]:
        node = self._tree.command
        if node is None or node.disposition is None or node.disposition in self._command:
            return
        self._command.add(node.disposition)
        if node.disposition is Disposition.RECEIVED:
            yield f"{words.place(node)} is a command that ignores SIGTERM; SIGKILL follows after {GRACE_S:g} s"
        elif node.disposition is Disposition.KILLED:
            yield f"{words.place(node)} was ended by force (SIGKILL), disposition killed"

    def _refusals(self) -> Iterator[str]:
        for node in self._tree.nodes.values():
            if node.job is Job.REFUSED and node.execution_id not in self._refused:
                self._refused.add(node.execution_id)
                if len(self._refused) <= REFUSALS_NAMED:
                    yield f"spawn refused at the gate: {words.place(node)} ({node.detail or 'start refused'})"

    def _stragglers(self) -> Iterator[str]:
        running = self._tree.still_running
        now = time.monotonic()
        if not running or now - self._stragglers_at < STRAGGLERS_EVERY_S:
            return
        self._stragglers_at = now
        if len(running) > words.NAMED_AT_MOST:
            yield words.still_running_count(running)
        else:
            yield from map(words.still_running, running)


def _counts(nodes: list[Node]) -> str:
    found = [(word, sum(node.disposition is word for node in nodes)) for word in Disposition]
    return ", ".join(f"{count} {word}" for word, count in found if count)
