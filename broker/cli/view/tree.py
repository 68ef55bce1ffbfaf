"""The picture of a run: the two axes as columns, then the tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from broker.cli.terminal import Paint
from broker.cli.view.forest import Branch, choose, grow
from broker.cli.view.words import count, counts, disposition, quoted, settled, status
from broker.cli.visible import visible
from broker.protocol.http.answers import RunAnswer

DEEPEST_DRAWN = 24
"""Levels of lines before an id; what is deeper has its depth as a number instead."""


def tree_lines(run: RunAnswer, paint: Paint, *, at_most: int | None = None) -> list[str]:
    """Status, disposition and place of each execution; at most so many, those that are still running first."""
    roots = grow(run.nodes)
    drawn = choose(roots, at_most)
    first = max([len("status"), *(len(visible(one.node.status)) for one in drawn)])
    second = max((len(_plain(one)) for one in drawn), default=0)
    second = max(second, len("disposition")) if second else 0
    lines = [_title(run, paint)]
    if drawn:
        lines.append(
            paint(_row("status".ljust(first), "disposition".ljust(second) if second else "", "execution"), bold=True)
        )
    for lead, one in _drawn(roots, drawn, paint):
        node = one.node
        decided = _pad(status(paint, node.status), visible(node.status), first)
        happened = _pad(disposition(paint, node.disposition, node.cause), _plain(one), second)
        place = f"{paint(lead, dim=True)}{visible(node.execution_id)}{_beside(one, paint)}"
        lines.append(_row(decided, happened, place))
    if len(drawn) < len(run.nodes):
        more = count(len(run.nodes) - len(drawn), "execution")
        lines.append(f"{more} not drawn: --all draws everything, `broker run report` names what is still running")
    return lines


def _title(run: RunAnswer, paint: Paint) -> str:
    statuses = counts(Counter(node.status for node in run.nodes))
    running = sum(node.disposition is not None and not settled(node.disposition) for node in run.nodes)
    line = f"Run {visible(run.run_id)}: {status(paint, run.workflow_status)}, {count(len(run.nodes), 'execution')}"
    line += f" ({statuses})" if statuses else ""
    return line + (f", {paint(f'{running:,} cancelled and still running', 'red', bold=True)}" if running else "")


def _row(decided: str, happened: str, place: str) -> str:
    """Without a second column where nothing was cancelled."""
    return "  ".join(filter(None, (decided, happened, place)))


def _plain(one: Branch) -> str:
    return disposition(Paint(), one.node.disposition, one.node.cause)


def _pad(painted: str, plain: str, width: int) -> str:
    """Colours have no width."""
    return painted + " " * (width - len(plain))


def _beside(one: Branch, paint: Paint) -> str:
    """Who holds it, how it ended, and what the picture leaves out."""
    node = one.node
    parts = []
    if node.claim is not None and not settled(node.disposition):
        parts.append(f"on {visible(node.claim.worker_id)}")
    if node.agent_node_id:
        parts.append(f"({visible(node.agent_node_id)})")
    if node.outcome and node.outcome != node.status:
        parts.append(f"outcome {visible(node.outcome)}")
    if node.detail:
        parts.append(quoted(node.detail))
    if one.note:
        parts.append(f"[{one.note}]")
    if one.hidden:
        parts.append(f"[{one.hidden:,} more below]")
    return "  " + paint(" ".join(parts), dim=True) if parts else ""


def _drawn(roots: list[Branch], drawn: set[Branch], paint: Paint) -> Iterator[tuple[str, Branch]]:
    """Each one with the lines that lead to it. Iterative: a path can be deep."""
    branch, last, line = ("├── ", "└── ", "│   ") if paint.unicode else ("|-- ", "`-- ", "|   ")
    todo = [(0, "", "", one) for one in reversed(roots) if one in drawn]
    while todo:
        depth, above, own, one = todo.pop()
        yield (above + own if depth <= DEEPEST_DRAWN else f"(depth {depth}) "), one
        below = above + {branch: line, last: "    "}.get(own, "") if depth <= DEEPEST_DRAWN else ""
        children = [child for child in one.below if child in drawn]
        for at, child in enumerate(reversed(children)):
            todo.append((depth + 1, below, branch if at else last, child))
