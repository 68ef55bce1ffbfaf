"""The walk: from the records of a run to levels, deepest first. Pure, iterative, linear but for sorting.

A million executions are a case, so a `Forest` keeps numbers instead of objects: each id gets a place
(0, 1, 2 … in the order of first mention) and the columns are arrays over places. Reading pages in with
`add` takes most of the time and is spread over the pages; `walk` itself is what blocks.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import NamedTuple

_UNREGISTERED = -1.0
"""Stamp of an id that is only named as a parent."""
_ABOVE_ROOT = -1
"""Depth of what is no execution: a missing parent, or none. Whoever names it is at 0."""
_UNKNOWN, _ON_PATH = -2, -3
_PAGE = 1_000


class Forest:
    """The executions of one run, as far as the walk needs them."""

    __slots__ = ("_parents", "_places", "_registered_us", "_stamps_us")

    def __init__(self, records: Iterable[tuple[str, str, int, int]] = ()) -> None:
        self._places: defaultdict[str, int] = defaultdict()
        self._places.default_factory = self._places.__len__  # an id not seen before gets the next place
        self._parents = array("i", [self._places[""]])  # "no parent" is place 0: a parent that is never registered
        self._stamps_us = array("d", [_UNREGISTERED])  # doubles sort 1.4 times as fast; exact for µs until 2255
        self._registered_us = array("d", [_UNREGISTERED])
        self.add(records)

    def add(self, records: Iterable[tuple[str, str, int, int]]) -> None:
        """Take in (execution_id, parent_execution_id or "", stamp, registered); of a repeated id the last one counts.

        The stamp is started_at, or where that is absent the time of registration: µs since 1970, >= 0.
        Of equal stamps the time of registration decides.
        """
        records = iter(records)
        while page := list(islice(records, _PAGE)):
            self.add_columns(*zip(*page, strict=True))

    def add_columns(
        self,
        execution_ids: Sequence[str],
        parent_execution_ids: Sequence[str],
        stamps_us: Sequence[int],
        registered_us: Sequence[int],
    ) -> None:
        """The same of records in columns."""
        places = list(map(self._places.__getitem__, execution_ids))
        above = list(map(self._places.__getitem__, parent_execution_ids))
        parents, stamps, registered = self._parents, self._stamps_us, self._registered_us
        grown = len(self._places) - len(parents)
        parents.extend(repeat(0, grown))
        stamps.extend(repeat(_UNREGISTERED, grown))
        registered.extend(repeat(_UNREGISTERED, grown))
        for place, parent, stamp_us, at_us in zip(places, above, stamps_us, registered_us, strict=True):
            parents[place], stamps[place], registered[place] = parent, stamp_us, at_us

    def __len__(self) -> int:
        return len(self._stamps_us) - self._stamps_us.count(_UNREGISTERED)


class Level(NamedTuple):
    """The executions of one depth, in the order in which they are told."""

    depth: int
    execution_ids: list[str]


@dataclass(frozen=True, slots=True)
class Walk:
    """The levels of a walk, deepest first. Made while iterating: a chain has as many levels as executions."""

    sizes: dict[int, int]
    """Depth -> number of executions, deepest first; depths without executions are absent."""
    execution_ids: list[str]
    """Of all levels, in the order in which they are told."""

    @property
    def total(self) -> int:
        """Number of executions in all levels."""
        return len(self.execution_ids)

    @property
    def depths(self) -> Sequence[int]:
        """The depth of each, in the same order."""
        return array("i", chain.from_iterable(repeat(depth, size) for depth, size in self.sizes.items()))

    def __len__(self) -> int:
        """Number of levels."""
        return len(self.sizes)

    def __iter__(self) -> Iterator[Level]:
        start = 0
        for depth, size in self.sizes.items():
            yield Level(depth, self.execution_ids[start : start + size])
            start += size


def walk(forest: Forest, target: str | None = None) -> Walk:
    """All executions of the run, or with a target those of its subtree, each exactly once, deepest level first.

    Within a level: latest stamp first, then earliest registration, then id. A child comes before its parent,
    except over the one edge of each cycle at which `depths` cut it. Depths are those of the run, for a subtree too.
    """
    ids, depth, order = list(forest._places), _depths(forest), _registered(forest)
    if target is not None:
        inside = _inside(forest, target)
        order = [place for place in order if inside[place]]
    found = Counter(map(depth.__getitem__, order))
    _sort_ties(forest, order, ids)
    order.sort(key=forest._stamps_us.__getitem__, reverse=True)  # stable: each sort keeps what those before it did
    order.sort(key=depth.__getitem__, reverse=True)
    sizes = {level: found[level] for level in range(max(found, default=0), -1, -1) if level in found}
    return Walk(sizes, [ids[place] for place in order])


def depths(forest: Forest) -> dict[str, int]:
    """Depth of every execution, by the rule of AgentField's cancel-tree: roots are 0, a missing parent makes a root.

    Executions are listed by stamp ascending, then registration, then id; from each in that order the parents
    are followed, and a parent that is already on the path counts as 0. So a self-parent is 1, and a <-> b listed (a, b)
    gives a 2, b 1.
    """
    ids, depth = list(forest._places), _depths(forest)
    return {ids[place]: depth[place] for place in _registered(forest)}


def descendants(forest: Forest, target: str) -> set[str]:
    """The target and everything below it, as far as registered. A target that is only named has descendants too."""
    ids, inside = list(forest._places), _inside(forest, target)
    return {ids[place] for place in _registered(forest) if inside[place]}


def _depths(forest: Forest) -> list[int]:
    """Depth by place. Only a cycle makes the order of listing matter, and sorting costs as much as the climb."""
    listing = _registered(forest)
    depth, cyclic = _climb(forest, listing)
    if cyclic:
        _sort_ties(forest, listing, list(forest._places))
        listing.sort(key=forest._stamps_us.__getitem__)
        depth, _ = _climb(forest, listing)
    return depth


def _climb(forest: Forest, listing: list[int]) -> tuple[list[int], bool]:
    """Follow the parents from each place up to a known depth, then give out the depths on the way back.

    Returns depth by place, and whether there was a cycle.
    """
    parents = forest._parents
    depth = [_ABOVE_ROOT if stamp == _UNREGISTERED else _UNKNOWN for stamp in forest._stamps_us]
    cyclic = False
    path: list[int] = []
    for place in listing:
        while depth[place] == _UNKNOWN:
            depth[place] = _ON_PATH
            path.append(place)
            place = parents[place]
        reached = depth[place]
        if reached == _ON_PATH:
            cyclic, reached = True, 0
        while path:
            reached += 1
            depth[path.pop()] = reached
    return depth, cyclic


def _inside(forest: Forest, target: str) -> list[bool]:
    """By place: whether it is the target or below it. Climbs like `_climb`; on the path counts as outside."""
    parents = forest._parents
    inside: list[bool | None] = [None] * len(parents)
    if target in forest._places:
        inside[forest._places[target]] = True
    inside[0] = False
    path: list[int] = []
    for place in range(len(parents)):
        while inside[place] is None:
            inside[place] = False
            path.append(place)
            place = parents[place]
        if inside[place]:
            for passed in path:
                inside[passed] = True
        path.clear()
    return [bool(known) for known in inside]


def _registered(forest: Forest) -> list[int]:
    """The places that are executions, not only named as parents."""
    return [place for place, stamp in enumerate(forest._stamps_us) if stamp != _UNREGISTERED]


def _sort_ties(forest: Forest, places: list[int], ids: list[str]) -> None:
    """By registration, then id, where any two stamps are equal: sorting by id takes longer than the whole walk."""
    if len(set(forest._stamps_us)) < len(forest) + 1:
        places.sort(key=ids.__getitem__)
        places.sort(key=forest._registered_us.__getitem__)
