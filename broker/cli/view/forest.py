"""The executions of a run as trees: what is drawn below what. Nothing recurses, and cycles end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from broker.cli.view.words import settled
from broker.cli.visible import visible
from broker.protocol.http.answers import ExecutionAnswer


@dataclass(slots=True, eq=False)
class Branch:
    """An execution and those it has started. `note` says why it stands at the top although it names a parent."""

    node: ExecutionAnswer
    above: Branch | None = None
    below: list[Branch] = field(default_factory=list)
    note: str = ""
    hidden: int = 0
    """Executions below it that are not drawn."""

    @property
    def still_running(self) -> bool:
        return self.node.disposition is not None and not settled(self.node.disposition)


def grow(nodes: Iterable[ExecutionAnswer]) -> list[Branch]:
    """The roots, in the order of the list. An unknown parent makes a root, a cycle is cut at its first in the list."""
    branches = {node.execution_id: Branch(node) for node in nodes}
    cut = _cut_cycles(branches)
    roots = []
    for branch in branches.values():
        parent_id = branch.node.parent_execution_id
        parent = branches.get(parent_id) if parent_id and branch not in cut else None
        if parent is not None:
            branch.above = parent
            parent.below.append(branch)
            continue
        roots.append(branch)
        branch.note = _why_at_the_top(branch, is_cut=branch in cut)
    return roots


def _why_at_the_top(branch: Branch, *, is_cut: bool) -> str:
    parent = visible(branch.node.parent_execution_id or "")
    if not parent:
        return ""
    if not is_cut:
        return f"its parent {parent} is not known"
    if branch.node.parent_execution_id == branch.node.execution_id:
        return "cycle: it is its own parent"
    return f"cycle: its parent {parent} stands below it"


def _cut_cycles(branches: dict[str, Branch]) -> set[Branch]:
    """Of each cycle the one that is listed first. Each execution is walked over once."""
    place = {branch: at for at, branch in enumerate(branches.values())}
    cut: set[Branch] = set()
    seen: set[Branch] = set()
    for start in branches.values():
        path: dict[Branch, None] = {}
        one: Branch | None = start
        while one is not None and one not in seen:
            seen.add(one)
            path[one] = None
            one = branches.get(one.node.parent_execution_id or "")
        if one in path:
            steps = list(path)
            cut.add(min(steps[steps.index(one) :], key=place.__getitem__))
    return cut


def preorder(roots: Iterable[Branch]) -> Iterator[Branch]:
    """Each one before those below it."""
    todo = list(roots)[::-1]
    while todo:
        branch = todo.pop()
        yield branch
        todo.extend(reversed(branch.below))


def choose(roots: list[Branch], at_most: int | None) -> set[Branch]:
    """What is drawn: what is still running first, each with all that is above it. Sets `hidden` of the drawn."""
    everything = list(preorder(roots))
    if at_most is None or len(everything) <= at_most:
        return set(everything)
    drawn: set[Branch] = set()
    for branch in sorted(everything, key=lambda one: not one.still_running):
        drawn.update(_path(branch, drawn, at_most - len(drawn)))
        if len(drawn) == at_most:
            break
    for branch in reversed(everything):
        if branch not in drawn and branch.above is not None:
            branch.above.hidden += branch.hidden + 1
    return drawn


def _path(branch: Branch, drawn: set[Branch], at_most: int) -> list[Branch]:
    """It and what is above it and not drawn yet; nothing where that is too much."""
    path: list[Branch] = []
    one: Branch | None = branch
    while one is not None and one not in drawn:
        if len(path) == at_most:
            return []
        path.append(one)
        one = one.above
    return path
