"""What is shown for an answer, line by line."""

from __future__ import annotations

import re

import pytest

from broker.cli.terminal import Paint
from broker.cli.view.cancel import NODES_SHOWN, execution_lines, preview_lines, tree_lines
from broker.cli.view.execution import execution_lines as one_execution
from broker.cli.view.lists import cancellation_lines, log_lines, worker_lines
from broker.cli.view.report import progress_text, report_lines, straggler_lines
from broker.cli.view.words import duration
from broker.cli.visible import visible
from broker.protocol.http.answers import (
    AuditEntryAnswer,
    CancelExecutionAnswer,
    CancellationAnswer,
    CancelTreeAnswer,
    ExecutionAnswer,
    NodeAnswer,
    PreviewAnswer,
    WorkerAnswer,
)
from tests.support.answers import AT, cancelled_execution, cancelled_run, execution, report_answer, straggler

PLAIN = Paint()
COLOUR = Paint(colour=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 日本", "plain ünïcode 日本"),
        ("\x1b[31m\r\n\t\x7f", "\\x1b[31m\\x0d\\x0a\\x09\\x7f"),
        ("\u202e\u2028\ud800\U000e0001", "\\u202e\\u2028\\ud800\\U000e0001"),
        ("\x9b31m", "\\x9b31m"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_escaped_once(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(visible(text)) == shown


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (840, "840 ms"),
        (4200, "4.2 s"),
        (250_000, "4 min 10 s"),
        (7_500_000, "2 h 05 min"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_durations_have_two_units_at_most(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text


def test_the_lines_of_the_compatible_pair() -> None:
    answer = CancelExecutionAnswer.model_validate(
        cancelled_execution(
            reason="bad prompt", warning="Cancelled only …", suggested_endpoint="/api/v1/workflows/r/cancel-tree"
        )
    )
    assert execution_lines(answer, PLAIN) == [
        "Execution leaf-1 cancelled (was: running)",
        "Reason: bad prompt",
        "Warning: Cancelled only …",
        "Suggestion: POST /api/v1/workflows/r/cancel-tree",
    ]
    assert execution_lines(CancelExecutionAnswer.model_validate(cancelled_execution()), PLAIN) == [
        "Execution leaf-1 cancelled (was: running)"
    ]
    run = CancelTreeAnswer.model_validate(cancelled_run())
    assert tree_lines(run, "r", PLAIN) == ["Run r cancelled: 2 cancelled, 1 skipped, 0 errors"]


def test_a_subtree_says_so_and_errors_are_named() -> None:
    failed = [
        {"execution_id": f"n{n}", "workflow_depth": 1, "previous_status": "running", "status": "error"}
        for n in range(NODES_SHOWN + 3)
    ]
    failed[0]["skip_reason"] = "out of memory"
    raw = cancelled_run(scope="subtree", execution_id="planner", error_count=len(failed), nodes=failed)
    lines = tree_lines(CancelTreeAnswer.model_validate(raw), "planner", PLAIN)
    assert lines[0] == "Subtree planner cancelled: 2 cancelled, 1 skipped, 53 errors"
    assert lines[1:3] == ["  Error: n0: out of memory", "  Error: n1: no reason given"]
    assert (len(lines), lines[-1]) == (NODES_SHOWN + 2, "  and 3 more errors")


def test_each_straggler_is_named_with_worker_cause_and_age() -> None:
    found = report_answer(
        straggler("a", worker_id="w-1", agent_node_id="gpu-7", overdue=True, attempts=3),
        straggler("b", cause="worker_lost", worker_id="w-2", worker_last_seen_ms=61_000, age_ms=90_000),
        straggler("c", cause="refused", worker_id="w-1", disposition="refused", detail="in a\x1b transaction"),
        straggler("s", cause="stopping", worker_id="w-2", disposition="received", worker_last_seen_ms=61_000),
        straggler("t", cause="stopping", worker_id="w-1", disposition="received", worker_last_seen_ms=900),
        straggler("d", cause="no_worker", published_at=None, attempts=0),
        straggler("e", cause="of_tomorrow", worker_id="w-1"),
    )
    assert straggler_lines(found, PLAIN) == [
        "Still running: 7",
        "  a on w-1 (gpu-7): no_ack (it was told, and nothing was heard), overdue, told 4.2 s ago, 3 attempts, depth 1",
        "  b on w-2: worker_lost (its worker's heartbeat has expired: a suspicion, not a proof), told 1 min 30 s ago,"
        " depth 1, worker last seen 1 min 01 s ago",
        "  c on w-1: refused (its worker heard and said it will not stop), told 4.2 s ago, depth 1,"
        ' "in a\\x1b transaction"',
        "  s on w-2: stopping (its worker heard and is stopping), told 4.2 s ago, depth 1,"
        " worker last seen 1 min 01 s ago",
        "  t on w-1: stopping (its worker heard and is stopping), told 4.2 s ago, depth 1",
        "  d on no worker: no_worker (it is said to be running, but no worker ever claimed it), not told yet,"
        " asked for 4.2 s ago, depth 1",
        "  e on w-1: of_tomorrow, told 4.2 s ago, depth 1",
    ]
    assert progress_text(found) == (
        "2 of 9 executions settled, still running: 7"
        " (2 stopping, 1 no_ack, 1 no_worker, 1 of_tomorrow, 1 refused, 1 worker_lost)"
    )


def test_a_long_list_says_how_many_it_leaves_out() -> None:
    found = report_answer(straggler("a"))
    totals = found.totals.model_copy(update={"still_running": 1_500})
    cut = found.model_copy(update={"totals": totals, "still_running_truncated": True})
    assert straggler_lines(cut, PLAIN)[0] == "Still running: 1500"
    assert straggler_lines(cut, PLAIN)[-1] == "  and 1,499 more, not as deep"
    assert "1 no_ack among the deepest" in progress_text(cut)


def test_the_report_tells_both_axes() -> None:
    lag = {"count": 2, "p50_ms": 1.25, "p99_ms": 1500.0, "max_ms": 1500.0}
    found = report_answer(
        reason="bad prompt",
        requested_by="ops",
        settled_at=AT,
        dispositions={"stopped": 1, "lost": 1, "of_tomorrow": 7},
        ack_lag={"received": lag, "stopped": lag},
    )
    lines = report_lines(found, PLAIN)
    assert lines[:3] == [
        "Cancel c_1 of run r: settled",
        f'Requested {AT} by ops, reason "bad prompt"; settled {AT}',
        "2 executions: 2 cancelled, 0 skipped, 0 errors, 2 settled",
    ]
    assert "  stopped             1  its holder says the work has ended because of the cancel" in lines
    assert "  of_tomorrow: " not in "\n".join(lines)
    assert "  ack lag received p50 1.2 ms, p99 1,500.0 ms, max 1,500.0 ms (n = 2)" in lines
    assert lines[-1] == "Still running: 0"
    late = report_answer(straggler("a"), overdue=True, scope="subtree", target="planner")
    assert report_lines(late, PLAIN)[0] == "Cancel c_1 of subtree planner of run r: overdue"
    assert "deadline" in report_lines(late, PLAIN)[1]


def test_a_dry_run_lists_what_would_be_told() -> None:
    def node(name: str, skip: str | None = None) -> NodeAnswer:
        return NodeAnswer(
            execution_id=name, workflow_depth=1, previous_status="running", status="cancelled", skip_reason=skip
        )

    nodes = [node("done", "terminal"), *(node(f"n{n}") for n in range(NODES_SHOWN + 10))]
    answer = PreviewAnswer(run_id="r", scope="run", total_nodes=61, would_cancel=60, nodes=nodes)
    lines = preview_lines(answer, PLAIN)
    assert lines[:3] == [
        "Would cancel 60 of 61 executions of run r (dry run: nothing was changed)",
        "  depth  status   execution",
        "  1      running  n0",
    ]
    assert lines[-1] == "  and 10 more (--json has what the server lists)"
    none = PreviewAnswer(run_id="r", scope="subtree", target="p", total_nodes=1, would_cancel=0)
    assert preview_lines(none, PLAIN) == [
        "Would cancel 0 of 1 execution of subtree p of run r (dry run: nothing was changed)"
    ]


def test_one_execution_is_told_fact_by_fact() -> None:
    raw = execution(
        "leaf-1",
        "planner",
        run_id="r",
        depth=2,
        status="cancelled",
        status_reason="bad prompt",
        disposition="received",
        cause="stopping",
        claim={"worker_id": "w-1", "incarnation": 2, "start": 1},
        registered_at=AT,
    )
    lines = one_execution(ExecutionAnswer.model_validate(raw), PLAIN)
    assert lines == [
        "Execution leaf-1",
        '  status       cancelled (reason: "bad prompt")',
        "  disposition  received: stopping (its worker heard and is stopping)",
        "  run          r",
        "  parent       planner",
        "  depth        2",
        "  held by      w-1 (incarnation 2, start 1)",
        f"  registered   {AT}",
    ]


def test_the_lists() -> None:
    worker = WorkerAnswer(worker_id="w-1", incarnation=1, alive=True, held=3, last_seen_ms=900)
    silent = WorkerAnswer(worker_id="worker-2", incarnation=4, agent_node_id="gpu", alive=False, last_seen_ms=90_000)
    assert worker_lines([worker, silent], PLAIN) == [
        "worker    incarnation  state   held  last seen       agent node",
        "w-1       1            alive   3     900 ms ago      -",
        "worker-2  4            silent  ?     1 min 30 s ago  gpu",
    ]
    entry = AuditEntryAnswer(at=AT, event="cancel.requested", cancel_id="c_1", detail="run\nby ops")
    assert log_lines([entry], PLAIN)[1] == f"{AT}  cancel.requested  c_1     run\\x0aby ops"
    asked = AuditEntryAnswer(at=AT, event="requested", cancel_id="c_1", detail="run", by="ops\x1b", reason="bad prompt")
    assert log_lines([asked], PLAIN)[1].endswith('run by ops\\x1b because "bad prompt"')
    open_one = CancellationAnswer(
        run_id="r",
        cancel_id="c_1",
        scope="run",
        state="open",
        overdue=True,
        reason="why",
        requested_by="ops",
        requested_at=AT,
        deadline_at=AT,
        outstanding=2,
        oldest_age_ms=90_000,
        causes={"no_ack": 2},
    )
    assert cancellation_lines([open_one], "open", PLAIN) == [
        "1 cancel, 2 executions still running, the oldest for 1 min 30 s",
        "cancel  state    running  oldest      causes    of",
        'c_1     overdue  2        1 min 30 s  2 no_ack  run r by ops, reason "why"',
    ]


def test_empty_lists_say_so() -> None:
    assert worker_lines([], PLAIN) == ["No workers: none has sent a heartbeat"]
    assert log_lines([], PLAIN) == ["No entries: nothing was decided about this run"]
    assert cancellation_lines([], "open", PLAIN) == ["No open cancels"]
    assert cancellation_lines([], "all", PLAIN) == ["No cancels"]


def test_colours_change_no_text() -> None:
    found = report_answer(straggler("a", worker_id="w-1"), dispositions={"stopped": 1, "lost": 1, "asked": 1})
    coloured = report_lines(found, COLOUR)
    assert any("\x1b[" in line for line in coloured)
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in coloured] == report_lines(found, PLAIN)
