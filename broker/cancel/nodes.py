"""Pure: what a cancel did with each execution, in the order of the walk.

A run has up to a million of them, and few that differ in more than their id and their depth: what they have in common
is kept once, and a `NodeResult` is made where one is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import eq
from typing import NamedTuple, overload

from broker.protocol.records import Facts
from broker.protocol.states import Status, is_terminal

ERROR = "error"


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What one cancel did with one execution, in the order of the walk.

    `status` is `cancelled`, `skipped`, `error`, or the terminal status that it had; `skip_reason` is
    `terminal`, `raced_to_terminal` or the text of the error.
    """

    execution_id: str
    depth: int
    previous_status: str
    status: str
    skip_reason: str | None = None
    agent_node_id: str | None = None
    reasoner_id: str | None = None


class Fate(NamedTuple):
    """What a `NodeResult` has behind its id and its depth."""

    previous_status: str
    status: str
    skip_reason: str | None
    agent_node_id: str | None
    reasoner_id: str | None

    @classmethod
    def of(cls, facts: Facts, status: str | None = None, skip_reason: str | None = None) -> Fate:
        """What became of an execution of which this was known; without `status` it is as it was."""
        agent_node_id, reasoner_id = facts.agent_node_id or None, facts.reasoner_id or None
        return cls(facts.raw_status, status or facts.raw_status, skip_reason, agent_node_id, reasoner_id)

    @classmethod
    def decided(cls, facts: Facts) -> Fate:
        """What the closed gate makes of it: its own end, or cancelled."""
        if is_terminal(facts.raw_status):
            return cls.of(facts, None, "terminal")
        return cls.of(facts, Status.CANCELLED.value)

    @classmethod
    def repeated(cls, facts: Facts) -> Fate:
        """What a repeat finds: it was decided before."""
        decided = cls.decided(facts)
        return decided._replace(previous_status=decided.status, skip_reason="terminal")


class Nodes(Sequence[NodeResult]):
    """A tuple of `NodeResult` in all but its memory: three columns, of which the last has few different values."""

    __slots__ = ("_depths", "_fates", "_ids")

    def __init__(self, ids: Sequence[str] = (), depths: Sequence[int] = (), fates: Sequence[Fate] = ()) -> None:
        self._ids, self._depths, self._fates = ids, depths, fates

    @property
    def errors(self) -> int:
        """How many of them Redis would not take."""
        return sum(fate.status == ERROR for fate in self._fates)

    @overload
    def __getitem__(self, at: int) -> NodeResult: ...
    @overload
    def __getitem__(self, at: slice) -> Nodes: ...
    def __getitem__(self, at: int | slice) -> NodeResult | Nodes:
        if isinstance(at, slice):
            return Nodes(self._ids[at], self._depths[at], self._fates[at])
        return NodeResult(self._ids[at], self._depths[at], *self._fates[at])

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[NodeResult]:
        return (NodeResult(one, depth, *fate) for one, depth, fate in self._columns())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nodes | tuple) and len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Nodes({list(self)!r})"

    def _columns(self) -> Iterator[tuple[str, int, Fate]]:
        return zip(self._ids, self._depths, self._fates, strict=True)


NO_NODES = Nodes()


class Results:
    """What one call did with each execution: its first answer stays, however often the tree is walked again.

    The order and the depths are those of the last look at the tree.
    """

    def __init__(self) -> None:
        self._fates: dict[str, Fate] = {}
        self._ids: Sequence[str] = ()
        self._depths: Sequence[int] = ()
        self._gone: list[tuple[str, int]] = []

    def walk(self, ids: Sequence[str], depths: Sequence[int]) -> None:
        """The executions as they are walked from now on; what was answered before and is not among them stays."""
        if self._fates:
            found = set(ids)
            known = chain(self._gone, zip(self._ids, self._depths, strict=True))
            self._gone = [(one, depth) for one, depth in known if one in self._fates and one not in found]
        self._ids, self._depths = ids, depths

    def keep(self, execution_id: str, fate: Fate) -> None:
        """What became of it, unless it has an answer."""
        self._fates.setdefault(execution_id, fate)

    def get(self, execution_id: str) -> Fate | None:
        return self._fates.get(execution_id)

    def nodes(self) -> Nodes:
        """Those that have an answer."""
        fates, ids, depths = self._fates, self._ids, self._depths
        if not self._gone and len(fates) == len(ids):
            return Nodes(ids, depths, [fates[one] for one in ids])
        answered = [*self._gone, *((one, depth) for one, depth in zip(ids, depths, strict=True) if one in fates)]
        return Nodes(
            [one for one, _ in answered], [depth for _, depth in answered], [fates[one] for one, _ in answered]
        )
