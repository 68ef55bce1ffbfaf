"""What a cancel did with each execution: columns that look like a tuple, and first answers that stay."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from broker.cancel.nodes import Fate, NodeResult, Nodes, Results
from broker.protocol.records import Facts

RUNNING = Facts("running", "gpu-7", "")
DONE = Facts("Completed", "", "plan|ner")
TOLD = Fate.of(RUNNING, "cancelled")
ENDED = Fate.decided(DONE)
REFUSED = Fate.of(RUNNING, "error", "OOM")

some_rows = st.lists(st.tuples(st.text(max_size=3), st.integers(0, 5), st.sampled_from([TOLD, ENDED, REFUSED])))


def nodes_of(rows: list[tuple[str, int, Fate]]) -> Nodes:
    return Nodes([one for one, _, _ in rows], [depth for _, depth, _ in rows], [fate for _, _, fate in rows])


@given(some_rows, st.slices(8), st.integers(-9, 9))
def test_nodes_are_a_tuple_in_all_but_memory(rows: list[tuple[str, int, Fate]], some: slice, at: int) -> None:
    nodes, literal = nodes_of(rows), tuple(NodeResult(one, depth, *fate) for one, depth, fate in rows)
    assert (len(nodes), tuple(nodes), bool(nodes)) == (len(literal), literal, bool(literal))
    assert nodes == literal
    assert literal == nodes
    assert hash(nodes) == hash(literal)
    assert nodes[some] == literal[some]
    if -len(rows) <= at < len(rows):
        assert nodes[at] == literal[at]
        assert nodes[at] in nodes
    assert nodes != (*literal, NodeResult("other", 0, "running", "cancelled"))
    assert nodes.errors == sum(node.status == "error" for node in literal)
    assert pickle.loads(pickle.dumps(nodes)) == literal


def test_a_fate_says_what_the_gate_makes_of_an_execution() -> None:
    assert Fate.decided(RUNNING) == ("running", "cancelled", None, "gpu-7", None)
    assert Fate.decided(DONE) == ("Completed", "Completed", "terminal", None, "plan|ner")


def test_a_repeat_finds_every_node_decided() -> None:
    assert Fate.repeated(RUNNING) == ("cancelled", "cancelled", "terminal", "gpu-7", None)
    assert Fate.repeated(DONE) == ("Completed", "Completed", "terminal", None, "plan|ner")


def test_a_first_answer_stays_and_the_order_is_that_of_the_last_walk() -> None:
    results = Results()
    results.walk(["b", "a", "gone"], [1, 0, 0])
    results.keep("a", TOLD)
    results.keep("b", TOLD)
    results.keep("gone", ENDED)
    results.walk(["a", "b", "late"], [2, 1, 0])
    results.keep("a", REFUSED)
    results.keep("late", TOLD)
    assert [(node.execution_id, node.depth, node.status) for node in results.nodes()] == [
        ("gone", 0, "Completed"),
        ("a", 2, "cancelled"),
        ("b", 1, "cancelled"),
        ("late", 0, "cancelled"),
    ]
    results.walk(["gone", "a"], [3, 0])
    assert [(node.execution_id, node.depth) for node in results.nodes()] == [
        ("b", 1),
        ("late", 0),
        ("gone", 3),
        ("a", 0),
    ]


def test_what_has_no_answer_is_no_node() -> None:
    results = Results()
    results.walk(["b", "a"], [1, 0])
    assert results.nodes() == ()
    results.keep("a", TOLD)
    assert [node.execution_id for node in results.nodes()] == ["a"]
    assert (results.get("a"), results.get("b")) == (TOLD, None)
