"""The walk: every execution exactly once, children before parents, whatever the records look like."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.cancel.walk import Forest, Level, depths, descendants, walk

Record = tuple[str, str, int]


def forest_of(records: Iterable[Record] = ()) -> Forest:
    """Records that were registered at the same time: then the id decides between equal stamps."""
    return Forest((*record, 0) for record in records)


# Few ids and few stamps: cycles, self-parents, missing parents, duplicates and ties are then the usual case.
NAMES = [f"e{number}" for number in range(10)]
any_record = st.tuples(st.sampled_from(NAMES[:8]), st.sampled_from(["", *NAMES]), st.integers(0, 5))
any_records = st.lists(any_record, max_size=12)


@st.composite
def trees(draw: st.DrawFn) -> list[Record]:
    """Acyclic records in any order: a parent is one of those before it, missing, or none."""
    records: list[Record] = []
    for number in range(draw(st.integers(1, 30))):
        above = [record[0] for record in records]
        records.append((f"n{number}", draw(st.sampled_from(["", "missing", *above])), draw(st.integers(0, 9))))
    return draw(st.permutations(records))


def last_of_each(records: list[Record]) -> dict[str, tuple[str, int]]:
    return {execution_id: (parent, stamp) for execution_id, parent, stamp in records}


def literal_depths(records: list[Record]) -> dict[str, int]:
    """The rule of API.md word for word: recursive, slow, and only here."""
    known = last_of_each(records)
    result: dict[str, int] = {}

    def depth(execution_id: str, path: list[str]) -> int:
        if execution_id in result:
            return result[execution_id]
        if execution_id in path:
            return 0
        parent = known[execution_id][0]
        result[execution_id] = depth(parent, [*path, execution_id]) + 1 if parent in known else 0
        return result[execution_id]

    for execution_id in sorted(known, key=lambda name: (known[name][1], name)):
        depth(execution_id, [])
    return result


def literal_descendants(records: list[Record], target: str) -> set[str]:
    known = last_of_each(records)

    def reaches(execution_id: str) -> bool:
        seen: set[str] = set()
        while execution_id in known and execution_id not in seen and execution_id != target:
            seen.add(execution_id)
            execution_id = known[execution_id][0]
        return execution_id == target

    return {execution_id for execution_id in known if reaches(execution_id)}


def path_up(known: dict[str, tuple[str, int]], execution_id: str) -> list[str]:
    """The execution and all its ancestors, each once."""
    path: list[str] = []
    while execution_id in known and execution_id not in path:
        path.append(execution_id)
        execution_id = known[execution_id][0]
    return path


@given(any_records)
@example([("a", "a", 0)])
@example([("a", "b", 0), ("b", "a", 1)])
def test_depths_are_the_documented_rule(records: list[Record]) -> None:
    assert depths(forest_of(records)) == literal_depths(records)


@given(any_records, st.sampled_from([None, *NAMES]))
def test_every_execution_exactly_once_deepest_first_latest_first(records: list[Record], target: str | None) -> None:
    forest, known = forest_of(records), last_of_each(records)
    depth = depths(forest)
    scope = set(known) if target is None else descendants(forest, target)
    expected = sorted(scope, key=lambda name: (-depth[name], -known[name][1], name))
    result = walk(forest, target)
    assert [(level.depth, name) for level in result for name in level.execution_ids] == [
        (depth[name], name) for name in expected
    ]
    assert len(result) == len(list(result))
    assert result.total == len(expected)
    assert all(level.execution_ids for level in result)


@given(trees())
def test_children_come_before_their_parents(records: list[Record]) -> None:
    order = [execution_id for level in walk(forest_of(records)) for execution_id in level.execution_ids]
    position = {execution_id: index for index, execution_id in enumerate(order)}
    for execution_id, parent, _ in records:
        if parent in position:
            assert position[execution_id] < position[parent]


@given(any_records)
def test_even_with_cycles_only_one_edge_of_each_cycle_runs_the_other_way(records: list[Record]) -> None:
    known, depth = last_of_each(records), depths(forest_of(records))
    against = [name for name, (parent, _) in known.items() if parent in known and depth[name] != depth[parent] + 1]
    on_cycle = [name for name, (parent, _) in known.items() if name in path_up(known, parent)]
    assert set(against) <= set(on_cycle)
    cycles = {frozenset(path_up(known, name)) for name in on_cycle}
    self_parents = [name for name in on_cycle if known[name][0] == name]
    assert len(against) == len(cycles)
    assert set(self_parents) <= set(against)


@given(any_records, st.sampled_from(NAMES))
def test_descendants_are_what_reaches_the_target(records: list[Record], target: str) -> None:
    assert descendants(forest_of(records), target) == literal_descendants(records, target)


@given(any_records, st.lists(st.integers(0, 12), max_size=3))
def test_pages_make_no_difference(records: list[Record], cuts: list[int]) -> None:
    paged = forest_of()
    for start, end in pairwise([0, *sorted(cuts), len(records)]):
        paged.add((*record, 0) for record in (records[start:end] if start < end else []))
    assert len(paged) == len(last_of_each(records))
    assert list(walk(paged)) == list(walk(forest_of(records)))


@given(any_records)
def test_a_walk_has_its_executions_and_their_depths_in_columns(records: list[Record]) -> None:
    walked = walk(forest_of(records))
    pairs = [(one, level.depth) for level in walked for one in level.execution_ids]
    assert list(zip(walked.execution_ids, walked.depths, strict=True)) == pairs


@given(st.lists(any_record, unique_by=lambda record: record[0]), st.data())
def test_the_order_of_the_records_makes_no_difference(records: list[Record], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(records))
    assert list(walk(forest_of(shuffled))) == list(walk(forest_of(records)))


def test_levels_of_a_tree() -> None:
    forest = forest_of(
        [("root", "", 1), ("a", "root", 2), ("b", "root", 3), ("a1", "a", 4), ("b1", "b", 5), ("b2", "b", 5)]
    )
    assert list(walk(forest)) == [Level(2, ["b1", "b2", "a1"]), Level(1, ["b", "a"]), Level(0, ["root"])]
    assert list(walk(forest, "b")) == [Level(2, ["b1", "b2"]), Level(1, ["b"])]
    assert list(walk(forest, "a1")) == [Level(2, ["a1"])]
    assert len(walk(forest)) == 3


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([("a", "a", 1)], {"a": 1}),
        ([("a", "b", 1), ("b", "a", 2)], {"a": 2, "b": 1}),
        ([("a", "b", 2), ("b", "a", 1)], {"a": 1, "b": 2}),
        ([("b", "a", 1), ("a", "b", 1)], {"a": 2, "b": 1}),
        ([("a", "missing", 1), ("b", "a", 1)], {"a": 0, "b": 1}),
        ([("a", "b", 2), ("b", "a", 3), ("c", "a", 1)], {"a": 2, "b": 1, "c": 3}),
        ([("a", "b", 2), ("b", "c", 3), ("c", "a", 1), ("d", "c", 4)], {"b": 1, "a": 2, "c": 3, "d": 4}),
    ],
)
def test_depths_where_the_records_are_broken(records: list[Record], expected: dict[str, int]) -> None:
    assert depths(forest_of(records)) == expected


def test_of_a_repeated_id_the_last_record_counts() -> None:
    forest = forest_of([("child", "", 1), ("root", "", 1), ("child", "root", 3)])
    assert len(forest) == 2
    assert list(walk(forest)) == [Level(1, ["child"]), Level(0, ["root"])]


def test_nothing_gives_nothing() -> None:
    assert list(walk(forest_of())) == []
    assert depths(forest_of()) == {}
    assert list(walk(forest_of([("a", "", 1)]), "unknown")) == []
    assert descendants(forest_of([("a", "", 1)]), "") == set()


def test_a_target_that_is_only_named_as_a_parent_still_has_descendants() -> None:
    forest = forest_of([("child", "not-registered", 1), ("grandchild", "child", 2), ("other", "", 3)])
    assert descendants(forest, "not-registered") == {"child", "grandchild"}
    assert list(walk(forest, "not-registered")) == [Level(1, ["grandchild"]), Level(0, ["child"])]


@pytest.mark.parametrize("closed", [False, True], ids=["chain", "cycle"])
@pytest.mark.parametrize("backwards", [False, True], ids=["parents first", "children first"])
def test_a_chain_of_100_000_needs_no_recursion(closed: bool, backwards: bool) -> None:
    n = 100_000
    last = str(n - 1)
    records = [(str(number), str(number - 1) if number else last * closed, number) for number in range(n)]
    forest = forest_of(records[::-1] if backwards else records)
    result = walk(forest)
    assert len(result) == result.total == len({level.execution_ids[0] for level in result}) == n
    assert next(iter(result)) == (Level(n, ["0"]) if closed else Level(n - 1, [last]))
    assert len(descendants(forest, "50000")) == (n if closed else n - 50_000)


def test_of_equal_stamps_the_earlier_registration_comes_first() -> None:
    """The listing is by started_at, then registration, then id; sorting by depth and start keeps its order."""
    forest = Forest([("a", "", 5, 9), ("b", "", 5, 7), ("d", "", 5, 8), ("c", "", 5, 8), ("late", "", 6, 1)])
    assert list(walk(forest)) == [Level(0, ["late", "b", "c", "d", "a"])]
    assert depths(Forest([("a", "b", 1, 2), ("b", "a", 1, 1)])) == {"b": 2, "a": 1}
