"""The checker of the chaos rounds goes red for every lie and every loss it is there for, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.check import FAIR_US, Finding, check
from tests.chaos.facts import Execution, Operation, RunFacts
from tests.chaos.faults import FaultKind, schedule
from tests.chaos.history import read_history
from tests.chaos.plan import MEAN_SIZE, Shape, plan_run
from tests.chaos.truth import Line

RUN, ONE = "c1-0", "c1-0.0"
BEGAN, ASKED, SAW, ENDED, SETTLED = 1_000, 2_000, 3_000, 4_000, 5_000
FOR_EVER = 10 * FAIR_US

STOPPED = Execution(
    parent="", registered_us=900, started_us=950, start=1, status="cancelled", disposition="stopped", acked_start=1,
    settled_us=SETTLED, detail="",
)  # fmt: skip
OPERATION = Operation("cancel-1", "run", "", ASKED, SETTLED, open=False)


def line(at_us: int, word: str, *rest: Any, where: str = "worker-0-7") -> Line:
    return Line(where, at_us, at_us, word, rest)


PROCESS = line(100, "process", "w0", 1, 7)
HONEST = [
    PROCESS,
    line(BEGAN, "began", ONE, 1),
    line(SAW, "saw", ONE, 1),
    line(ENDED, "ended", ONE, 1, "cancelled"),
    line(4_500, "accepted", RUN, "cancel-1", "run", "", "settled", SETTLED, 0, where="control-0-8"),
]
LIVING = [one for one in HONEST if one.word != "ended"]


def facts(*operations: Operation, named: dict[str, str] | None = None, **executions: Execution) -> dict[str, RunFacts]:
    found = {f"{RUN}.{name[1:]}": one for name, one in executions.items()}
    return {RUN: RunFacts(RUN, operations or (OPERATION,), found or {ONE: STOPPED}, named or {}, ())}


def verdicts(lines: list[Line], said: dict[str, RunFacts]) -> list[tuple[str, str]]:
    return [(finding.verdict, finding.subject) for finding in judged(lines, said)]


def judged(lines: list[Line], said: dict[str, RunFacts]) -> list[Finding]:
    return check(read_history(lines), said)


def test_an_honest_round_has_no_findings() -> None:
    assert judged(HONEST, facts()) == []


@pytest.mark.parametrize("disposition", ["stopped", "killed", "ended_itself"])
def test_an_end_that_was_said_while_the_body_ran_is_a_lie(disposition: str) -> None:
    said = replace(STOPPED, disposition=disposition)
    late = [replace_time(one, SETTLED + 1) if one.word == "ended" else one for one in HONEST]
    assert ("wrong", ONE) in verdicts(late, facts(_0=said))
    assert ("wrong", ONE) in verdicts(LIVING, facts(_0=said))


def test_never_started_is_a_lie_about_every_body_that_began() -> None:
    assert ("wrong", ONE) in verdicts(HONEST, facts(_0=replace(STOPPED, disposition="never_started")))


def test_an_operation_that_was_said_to_be_settled_while_a_covered_body_ran() -> None:
    """Also where the answer was taken back later: who waited for it was told so."""
    running = replace(STOPPED, settled_us=9_000)
    late = [replace_time(one, 8_000) if one.word == "ended" else one for one in HONEST]
    reopened = replace(OPERATION, settled_us=9_000)
    assert verdicts(late, facts(reopened, _0=running)) == [("wrong", ONE)]


def test_what_the_audit_log_says_was_settled_counts_where_nobody_waited_for_it() -> None:
    running = replace(STOPPED, settled_us=9_000)
    late = [replace_time(one, 8_000) for one in HONEST if one.word == "ended"]
    said = facts(replace(OPERATION, settled_us=9_000), _0=running)
    logged = {RUN: replace(said[RUN], log=(f"1-0 event settled cancel_id cancel-1 at_us {SETTLED} detail run",))}
    assert verdicts([*LIVING[:3], *late], said) == []
    assert verdicts([*LIVING[:3], *late], logged) == [("wrong", ONE)]


def test_a_body_that_runs_on_and_is_in_no_report_is_lost() -> None:
    untold = replace(STOPPED, disposition=None, settled_us=None, status="running")
    open_one = replace(OPERATION, settled_us=None, open=True)
    lines = [PROCESS, line(BEGAN, "began", ONE, 1)]
    assert ("lost", ONE) in verdicts(lines, facts(open_one, _0=untold))
    told = replace(untold, disposition="received", status="cancelled")
    seen = [*lines, line(SAW, "saw", ONE, 1)]
    assert verdicts(seen, facts(open_one, _0=told)) == [("lost", ONE)]
    assert verdicts(seen, facts(open_one, _0=told, named={ONE: "stopping"})) == []


def test_a_body_that_was_held_for_long_and_never_told_is_lost_even_where_it_is_named() -> None:
    asked = replace(STOPPED, disposition="asked", settled_us=None)
    open_one = replace(OPERATION, settled_us=None, open=True)
    lines = [PROCESS, line(BEGAN, "began", ONE, 1), line(FOR_EVER, "ended", ONE, 1, "returned")]
    assert verdicts(lines, facts(open_one, _0=asked, named={ONE: "no_ack"})) == [("lost", ONE)]
    refused = replace(asked, disposition="refused")
    assert verdicts(lines, facts(open_one, _0=refused, named={ONE: "refused"})) == []


def test_a_claim_behind_a_closed_gate_is_lost() -> None:
    late = replace(STOPPED, started_us=ASKED + 1)
    assert ("lost", ONE) in verdicts(HONEST, facts(_0=late))


def test_a_claim_behind_the_gate_of_a_subtree_is_lost_if_its_parent_was_known() -> None:
    """One script call has one stamp: in it the child may have been claimed first, and its parent recorded after it."""
    below = replace(OPERATION, scope="subtree", target="c1-0.9")
    between = replace(STOPPED, parent="c1-0.9", registered_us=800)
    claimed = replace(STOPPED, parent="c1-0.5", started_us=ASKED + 1)
    assert ("lost", ONE) in verdicts(HONEST, facts(below, _9=STOPPED, _5=between, _0=claimed))
    at_once = replace(between, registered_us=ASKED + 1)
    assert ("lost", ONE) not in verdicts(HONEST, facts(below, _9=STOPPED, _5=at_once, _0=claimed))


def test_an_accepted_cancel_that_is_gone_is_lost() -> None:
    assert verdicts(HONEST, facts(replace(OPERATION, cancel_id="another"))) == [("lost", "cancel-1")]


def test_a_body_that_nobody_has_recorded_is_lost() -> None:
    ghost = [*HONEST, line(BEGAN, "began", "c1-7.0", 1), line(ENDED, "ended", "c1-7.0", 1, "returned")]
    assert verdicts(ghost, facts()) == [("lost", "c1-7.0")]


def test_two_bodies_of_one_claim_are_found() -> None:
    twice = [*HONEST, line(BEGAN, "began", ONE, 1, where="worker-1-9"), line(ENDED, "ended", ONE, 1, "returned")]
    assert ("wrong", ONE) in verdicts(twice, facts())


def test_a_body_ends_with_its_process_when_that_is_killed() -> None:
    """So what it held stays in a report; nothing that is said of it before the kill is true."""
    asked = replace(STOPPED, disposition="asked", settled_us=None)
    open_one = replace(OPERATION, settled_us=None, open=True)
    killed = [
        *LIVING[:2],
        line(4_000, "killing", 7, where="supervisor"),
        line(4_100, "died", 7, -9, where="supervisor"),
    ]
    assert verdicts(killed, facts(open_one, _0=asked, named={ONE: "worker_lost"})) == []
    assert verdicts(killed, facts(open_one, _0=asked)) == [("lost", ONE)]
    assert ("wrong", ONE) in verdicts(killed, facts(_0=replace(STOPPED, settled_us=3_500)))


def test_lost_without_a_proof_is_a_lie_and_with_a_mistaken_one_stands_apart() -> None:
    lost = replace(STOPPED, disposition="lost")
    assert ("wrong", ONE) in verdicts(LIVING, facts(_0=lost))
    replaced = [*LIVING, line(SAW, "replacing", 7, where="supervisor")]
    assert {verdict for verdict, _ in verdicts(replaced, facts(_0=lost))} == {"apart"}


def test_a_superseded_holder_stands_apart() -> None:
    second = replace(STOPPED, start=2, acked_start=2, started_us=1_500)
    both = [
        *LIVING,
        line(1_600, "began", ONE, 2, where="worker-1-9"),
        line(ENDED, "ended", ONE, 2, "cancelled", where="worker-1-9"),
    ]
    assert {verdict for verdict, _ in verdicts(both, facts(_0=second))} == {"apart"}


def test_the_tree_decides_what_a_subtree_covers() -> None:
    """A stranger may run on; a child may not, unless its edge was reported too late."""
    below = replace(OPERATION, scope="subtree", target=ONE)
    child = replace(STOPPED, parent=ONE, disposition=None, settled_us=None, status="succeeded")
    runs = [*HONEST, line(BEGAN, "began", "c1-0.1", 1), line(9_000, "ended", "c1-0.1", 1, "returned")]
    assert verdicts(runs, facts(below, _0=STOPPED, _1=child)) == [("wrong", "c1-0.1")]
    assert verdicts(runs, facts(below, _0=STOPPED, _1=replace(child, parent=""))) == []
    assert verdicts(runs, facts(below, _0=STOPPED, _1=replace(child, registered_us=SETTLED + 1, start=2))) == []


def test_a_command_that_outlives_what_was_said_of_it_is_a_lie_and_one_left_over_is_lost() -> None:
    where = "commands"
    seen = [line(BEGAN, "began", ONE, 0, where=where), line(9_100, "command", ONE, "41", 9_000, where=where)]
    assert ("wrong", ONE) in verdicts(seen, facts())
    left = [*seen, line(9_100, "left", ONE, "41", where=where)]
    unsaid = replace(STOPPED, disposition="asked", settled_us=None)
    open_one = replace(OPERATION, settled_us=None, open=True)
    assert ("lost", ONE) in verdicts(left, facts(open_one, _0=unsaid))
    assert verdicts(left, facts(open_one, _0=unsaid, named={ONE: "worker_lost"})) == []


def replace_time(one: Line, at_us: int) -> Line:
    return one._replace(at_us=at_us)


# --- the plan and the schedule ------------------------------------------------------------------------


def test_everyone_works_out_the_same_plan() -> None:
    shape = Shape(3, 4, 2, 10.0)
    assert [plan_run(shape, number) for number in range(50)] == [plan_run(shape, number) for number in range(50)]
    sizes = [len(plan_run(shape, number).executions) for number in range(1_000)]
    assert abs(sum(sizes) / len(sizes) - MEAN_SIZE) < 0.6
    assert {scope.scope for number in range(50) for scope in plan_run(shape, number).cancels} == {
        "run",
        "subtree",
        "execution",
    }


def test_the_seed_fixes_the_schedule() -> None:
    assert schedule(5, 600) == schedule(5, 600)
    assert schedule(5, 600) != schedule(6, 600)
    assert {fault.kind for fault in schedule(5, 20)} == set(FaultKind)
    assert all(0 < fault.at_s < 20 for fault in schedule(5, 20))
