"""Which directories the picture shows, and how they hang together: a terminal has few lines, a tree many."""

from __future__ import annotations

from collections.abc import Iterator

from broker.cli.demo.marks import Marks
from broker.cli.demo.tree import Job, Node, Tree

REFUSALS_SHOWN = 3


def choose(tree: Tree, budget: int, cancelled: bool) -> list[Node]:
    """At most `budget` directories with all that is above them, those that matter most first."""
    chosen: dict[Node, None] = {}
    for node in _by_weight(tree, cancelled):
        path = [node]
        while (above := path[-1].parent) is not None and above not in chosen:
            path.append(above)
        new = [one for one in path if one not in chosen]
        if len(chosen) + len(new) <= budget:
            chosen.update(dict.fromkeys(reversed(new)))
        if len(chosen) == budget:
            break
    return list(chosen)


def _by_weight(tree: Tree, cancelled: bool) -> list[Node]:
    """Before the cancel what is in flight, longest first; after it the stubborn ones, and what was cancelled."""
    nodes = list(tree.nodes.values())
    if not cancelled:
        return sorted(nodes, key=lambda node: not node.job.in_flight)
    stubborn = [node for node in nodes if node.is_stubborn]
    refused = [child for node in stubborn for child in node.children if child.job is Job.REFUSED]
    first = dict.fromkeys([*stubborn, *refused[:REFUSALS_SHOWN]])
    rest = [node for node in nodes if node not in first]
    return [*first, *sorted(rest, key=lambda node: (not node.covered, node.job is Job.REFUSED))]


def preorder(nodes: list[Node], marks: Marks) -> Iterator[tuple[str, Node]]:
    """The chosen ones as a tree: each with the lines that lead to it. Iterative: a path can be deep."""
    shown = set(nodes)
    todo = [("", "", node) for node in nodes if node.parent not in shown]
    while todo:
        lead, below, node = todo.pop()
        yield lead, node
        children = [child for child in node.children if child in shown]
        for at, child in enumerate(reversed(children)):
            branch, line = (marks.branch, marks.line) if at else (marks.last, "    ")
            todo.append((below + branch, below + line, child))
