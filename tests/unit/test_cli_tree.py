"""The picture of a run: every execution once, whatever its parents say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.cli.terminal import Paint
from broker.cli.view.forest import choose, grow, preorder
from broker.cli.view.tree import DEEPEST_DRAWN, tree_lines
from tests.support.answers import execution, run_answer

PLAIN = Paint()


def test_both_axes_stand_before_the_tree() -> None:
    run = run_answer(
        execution("root", status="cancelled", disposition="received", cause="stopping", agent_node_id="gpu"),
        execution("a", "root", status="succeeded"),
        execution("b", "root", status="cancelled", disposition="stopped"),
        execution(
            "c",
            "a",
            status="cancelled",
            disposition="asked",
            cause="no_ack",
            claim={"worker_id": "w-1", "incarnation": 1, "start": 1},
        ),
        execution("d", status="cancelled", disposition="ended_itself", outcome="failed"),
        workflow_status="cancelled",
    )
    assert tree_lines(run, PLAIN) == [
        "Run r: cancelled, 5 executions (4 cancelled, 1 succeeded), 2 cancelled and still running",
        "status     disposition         execution",
        "cancelled  received: stopping  root  (gpu)",
        "succeeded                      ├── a",
        "cancelled  asked: no_ack       │   └── c  on w-1",
        "cancelled  stopped             └── b",
        "cancelled  ended_itself        d  outcome failed",
    ]


def test_a_run_that_nobody_cancelled_has_one_axis() -> None:
    run = run_answer(execution("root"), execution("a", "root", status="pending"))
    assert tree_lines(run, Paint(unicode=False)) == [
        "Run r: running, 2 executions (1 pending, 1 running)",
        "status   execution",
        "running  root",
        "pending  `-- a",
    ]
    assert tree_lines(run_answer(), PLAIN) == ["Run r: running, 0 executions"]


def test_cycles_and_orphans_end_at_the_top_with_a_note() -> None:
    run = run_answer(
        execution("orphan", "missing"),
        execution("a", "b"),
        execution("b", "a"),
        execution("below", "b"),
        execution("self", "self"),
    )
    assert [line.split("  ", 1)[1].strip() for line in tree_lines(run, PLAIN)[2:]] == [
        "orphan  [its parent missing is not known]",
        "a  [cycle: its parent b stands below it]",
        "└── b",
        "└── below",
        "self  [cycle: it is its own parent]",
    ]


def test_a_deep_path_is_drawn_with_numbers() -> None:
    depth = 30_000
    nodes = [execution("n0"), *(execution(f"n{n}", f"n{n - 1}") for n in range(1, depth))]
    lines = tree_lines(run_answer(*nodes), PLAIN)[2:]
    assert len(lines) == depth
    assert lines[DEEPEST_DRAWN].endswith(f"└── n{DEEPEST_DRAWN}")
    assert lines[-1].endswith(f"(depth {depth - 1}) n{depth - 1}")
    assert max(map(len, lines)) < 150


def test_of_a_big_run_what_still_runs_is_drawn_with_all_that_is_above_it() -> None:
    nodes = [execution("root"), *(execution(f"n{n}", "root", disposition="stopped") for n in range(50))]
    nodes += [execution("below", "n49"), execution("leaf", "below", disposition="asked", cause="no_ack")]
    lines = tree_lines(run_answer(*nodes), PLAIN, at_most=6)
    column = lines[1].index("execution")
    assert [line[column:].lstrip("│├└─ ") for line in lines[2:-1]] == [
        "root  [47 more below]",
        "n0",
        "n1",
        "n49",
        "below",
        "leaf",
    ]
    assert lines[-1] == (
        "47 executions not drawn: --all draws everything, `broker run report` names what is still running"
    )


def test_a_path_that_is_too_long_hides_nobody_else() -> None:
    nodes = [execution("n0"), *(execution(f"n{n}", f"n{n - 1}") for n in range(1, 100))]
    nodes[-1].update(disposition="asked", cause="no_ack")
    nodes.append(execution("other", disposition="asked", cause="no_ack"))
    lines = tree_lines(run_answer(*nodes), PLAIN, at_most=5)
    assert sum("other" in line for line in lines) == 1
    assert len(lines) == 1 + 1 + 5 + 1


def test_hostile_ids_and_statuses_stay_on_their_line() -> None:
    run = run_answer(execution("\x1b[2Ja\nb", status="x\r", disposition="\x07", detail="\x1b"))
    lines = tree_lines(run, PLAIN)
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 3


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(-1, 12)), unique_by=lambda pair: pair[0]), st.integers(1, 15))
def test_every_execution_is_drawn_once_and_below_its_parent(pairs: list[tuple[int, int]], at_most: int) -> None:
    nodes = [execution(f"n{name}", f"n{parent}" if parent >= 0 else None) for name, parent in pairs]
    roots = grow(run_answer(*nodes).nodes)
    everything = list(preorder(roots))
    assert sorted(one.node.execution_id for one in everything) == sorted(f"n{name}" for name, _ in pairs)
    for one in everything:
        assert one.above is None or one.node.parent_execution_id == one.above.node.execution_id
        assert one.note or one.above is not None or one.node.parent_execution_id is None
    drawn = choose(roots, at_most)
    assert len(drawn) == min(at_most, len(everything))
    assert all(one.above is None or one.above in drawn for one in drawn)
    hidden = sum(one.hidden for one in drawn) + sum(1 + one.hidden for one in roots if one not in drawn)
    assert hidden == len(everything) - len(drawn)
