"""Each client command against canned answers: what it asks for, what it prints, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import broker.control
from broker.cli import waiting
from broker.store.checks import Finding
from tests.support.answers import AT, cancelled_execution, cancelled_run, execution, report, straggler
from tests.support.cli import Cli
from tests.support.stub_server import Answering, Asked, Canned, StubServer, stub_server

REPORT = "/api/v1/runs/r/cancellation"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setattr(waiting, "RETRY_PAUSE_S", 0.001)
    return Cli(monkeypatch, capsys)


def _routes(**bodies: Any) -> Answering:
    """By the last part of the path; a list is answered one after the other, its last one for ever."""

    def answer(asked: Asked) -> Canned:
        if asked.path.endswith("/events"):
            return Canned({"error": "not_found", "message": "no streams here"}, 404)
        found = bodies[asked.path.rsplit("/", 1)[-1].replace("-", "_")]
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return found if isinstance(found, Canned) else Canned(found)

    return answer


def _asked(server: StubServer) -> list[str]:
    return [f"{one.method} {one.path}" for one in server.asked]


def test_cancel_says_what_it_did_and_what_goes_on(cli: Cli) -> None:
    answer = cancelled_execution(
        reason="why",
        remaining_active_in_run=2,
        warning="2 others.",
        suggested_endpoint="/api/v1/workflows/r/cancel-tree",
    )
    with stub_server(_routes(cancel=answer)) as server:
        code, out, error = cli("execution", "cancel", "leaf-1", "--reason", "why", "--server", server.url)
    assert (code, error) == (0, "")
    assert out.splitlines() == [
        "Execution leaf-1 cancelled (was: running)",
        "Reason: why",
        "Warning: 2 others.",
        "Suggestion: POST /api/v1/workflows/r/cancel-tree",
        "Still running: 0",
    ]
    assert server.asked[0].body == {"reason": "why"}


def test_the_options_of_a_cancel_are_sent(cli: Cli) -> None:
    with stub_server(_routes(cancel_tree=cancelled_run())) as server:
        code, _, _ = cli(
            *("execution", "cancel-run", "r", "--server", server.url, "--order", "bottom_up_barrier"),
            *("--force-after", "1.5", "--deadline", "60", "--grace", "0", "--idempotency-key", "k-1"),
        )
    asked = server.asked[0]
    assert (code, asked.path, asked.body) == (0, "/api/v1/workflows/r/cancel-tree", {})
    assert asked.query == {
        "order": "bottom_up_barrier",
        "force_after_ms": "1500",
        "deadline_ms": "60000",
        "grace_ms": "0",
    }
    assert asked.headers["idempotency-key"] == "k-1"


def test_without_a_wait_who_still_runs_is_named_and_the_exit_code_is_0(cli: Cli) -> None:
    found = report(straggler("leaf-1", worker_id="w-1"))
    with stub_server(
        _routes(cancel_subtree=cancelled_run(scope="subtree", still_running=1), cancellation=found)
    ) as server:
        code, out, _ = cli("execution", "cancel-subtree", "planner", "--server", server.url)
    assert code == 0
    assert out.splitlines()[0] == "Subtree planner cancelled: 2 cancelled, 1 skipped, 0 errors"
    assert out.splitlines()[1] == "Still running: 1"
    assert out.splitlines()[2].startswith("  leaf-1 on w-1: no_ack (")
    assert out.splitlines()[3] == "See: broker run report r --cancel-id c_1"
    assert _asked(server) == ["POST /api/v1/executions/planner/cancel-subtree", f"GET {REPORT}"]
    assert server.asked[1].query == {"cancel_id": "c_1"}


def test_that_the_report_cannot_be_read_does_not_undo_the_cancel(cli: Cli) -> None:
    broken = Canned({"error": "broker_error", "message": "no"}, 500)
    with stub_server(_routes(cancel_tree=cancelled_run(still_running=1), cancellation=broken)) as server:
        code, out, error = cli("execution", "cancel-run", "r", "--server", server.url)
    assert code == 0
    assert out.splitlines()[-1] == "Still running: 1"
    assert error == "broker: cancelled, but its report could not be read: no\n"


def test_a_wait_asks_until_everything_has_settled(cli: Cli) -> None:
    reports = [report(straggler("a"), straggler("b")), report(straggler("b")), report()]
    with stub_server(_routes(cancel_tree=cancelled_run(still_running=2), cancellation=reports)) as server:
        code, out, error = cli("execution", "cancel-run", "r", "--wait", "300", "--server", server.url)
    assert (code, error) == (0, "")
    assert out.splitlines()[-1] == "Still running: 0"
    polls = [one.query.get("wait_ms") for one in server.asked[1:]]
    assert polls == [None, "60000", "60000"]


def test_a_wait_that_is_over_leaves_with_3_and_the_names(cli: Cli) -> None:
    found = report(straggler("leaf-1", worker_id="w-1", cause="refused", disposition="refused"))
    with stub_server(_routes(cancel_tree=cancelled_run(still_running=1), cancellation=found)) as server:
        code, out, _ = cli("execution", "cancel-run", "r", "--wait", "0.05", "--server", server.url)
        assert code == 3
        assert "  leaf-1 on w-1: refused (" in out
        code, out, _ = cli("execution", "cancel-run", "r", "--wait", "0", "--json", "--server", server.url)
    assert code == 3
    assert json.loads(out)["report"]["still_running"][0]["execution_id"] == "leaf-1"


def test_a_server_that_restarts_does_not_end_a_wait(cli: Cli) -> None:
    gap = Canned({"error": "broker_unavailable", "message": "Redis is gone"}, 503)
    reports = [report(straggler("a")), gap, Canned(None), Canned(b"<html>", 502), report()]
    with stub_server(_routes(cancel_tree=cancelled_run(still_running=1), cancellation=reports)) as server:
        code, _, error = cli("execution", "cancel-run", "r", "--wait", "300", "--server", server.url)
    assert (code, error) == (0, "")
    assert len(server.asked) == 6


def test_a_server_that_stays_away_is_6_when_the_wait_is_over(cli: Cli) -> None:
    reports = [report(straggler("a")), Canned(b"", 503)]
    with stub_server(_routes(cancel_tree=cancelled_run(still_running=1), cancellation=reports)) as server:
        code, out, error = cli("execution", "cancel-run", "r", "--wait", "1", "--server", server.url)
    assert code == 6
    assert out.splitlines() == ["Run r cancelled: 2 cancelled, 1 skipped, 0 errors"]
    assert error.count("\n") == 1


def test_executions_that_could_not_be_told_are_an_error_unless_they_ended(cli: Cli) -> None:
    failed = cancelled_run(error_count=1, still_running=1)
    reports = [report(straggler("a")), report()]
    with stub_server(_routes(cancel_tree=failed, cancellation=reports)) as server:
        assert cli("execution", "cancel-run", "r", "--server", server.url)[0] == 1
        assert cli("execution", "cancel-run", "r", "--wait", "9", "--server", server.url)[0] == 0


def test_a_dry_run_only_looks(cli: Cli) -> None:
    preview = {"run_id": "r", "scope": "run", "total_nodes": 3, "would_cancel": 2, "nodes": []}
    with stub_server(_routes(preview=preview)) as server:
        for command, target in (("cancel-run", "r"), ("cancel-subtree", "p"), ("cancel", "x")):
            code, out, _ = cli("execution", command, target, "--dry-run", "--server", server.url)
            assert (code, out.splitlines()[0].endswith("(dry run: nothing was changed)")) == (0, True)
        code, out, _ = cli("execution", "cancel-run", "r", "--dry-run", "--json", "--server", server.url)
    assert json.loads(out) == preview
    assert _asked(server) == [
        "GET /api/v1/runs/r/preview",
        "GET /api/v1/executions/p/preview",
        "GET /api/v1/executions/x/preview",
        "GET /api/v1/runs/r/preview",
    ]
    assert [one.query.get("scope") for one in server.asked] == [None, "subtree", "execution", None]


def test_json_is_what_the_server_said_with_the_fields_of_a_newer_one(cli: Cli) -> None:
    with stub_server(_routes(cancel=cancelled_execution(of_tomorrow=[1, 2]))) as server:
        code, out, _ = cli("execution", "cancel", "leaf-1", "--json", "--server", server.url)
    assert (code, out.count("\n")) == (0, 1)
    assert json.loads(out) == cancelled_execution(of_tomorrow=[1, 2])


def test_a_terminal_execution_is_5(cli: Cli) -> None:
    gone = Canned({"error": "invalid_state", "message": "execution is in terminal state 'succeeded'"}, 409)
    with stub_server(_routes(cancel=gone)) as server:
        code, out, error = cli("execution", "cancel", "leaf-1", "--server", server.url)
    assert (code, out, error) == (5, "", "broker: execution leaf-1 is in terminal state 'succeeded'\n")


def test_an_endpoint_of_another_host_is_not_followed(cli: Cli) -> None:
    evil = cancelled_run(still_running=1, report_endpoint="//evil.example/x")
    with stub_server(_routes(cancel_tree=evil)) as server:
        code, _, error = cli("execution", "cancel-run", "r", "--server", server.url, "--token", "t")
    assert code == 0
    assert "it names '//evil.example/x' as an endpoint" in error


# --- looking --------------------------------------------------------------------------------------


def test_a_run_is_read_page_by_page(cli: Cli) -> None:
    first = {"run_id": "r", "workflow_status": "running", "total_nodes": 2, "nodes": [execution("root")]}
    pages: Callable[[], list[Any]] = lambda: [  # noqa: E731
        {**first, "next_cursor": "1000"},
        {**first, "nodes": [execution("leaf", "root")]},
    ]
    with stub_server(_routes(r=pages())) as server:
        code, out, _ = cli("run", "tree", "r", "--server", server.url)
    assert (code, out.splitlines()[-1]) == (0, "running  └── leaf")
    assert [one.query for one in server.asked] == [{"limit": "1000"}, {"limit": "1000", "cursor": "1000"}]
    with stub_server(_routes(r=pages())) as server:
        code, out, _ = cli("run", "tree", "r", "--json", "--server", server.url)
    assert json.loads(out) == {**first, "nodes": [execution("root"), execution("leaf", "root")]}


def test_a_big_run_is_summarised_unless_all_is_asked_for(cli: Cli) -> None:
    nodes = [execution("root"), *(execution(f"n{n}", "root") for n in range(2_500))]
    run = {"run_id": "r", "workflow_status": "running", "total_nodes": len(nodes), "nodes": nodes}
    with stub_server(_routes(r=run)) as server:
        short = cli("run", "tree", "r", "--server", server.url)[1].splitlines()
        whole = cli("run", "tree", "r", "--all", "--server", server.url)[1].splitlines()
    assert (len(short), len(whole)) == (2_003, 2_503)
    assert short[-1].startswith("501 executions not drawn")


def test_report_log_show_and_the_lists(cli: Cli) -> None:
    entry = {"at": AT, "event": "cancel.requested"}
    worker = {"worker_id": "w-1", "incarnation": 2, "alive": False, "last_seen_ms": 9000}
    answers = _routes(
        cancellation=report(straggler("a")),
        log={"run_id": "r", "entries": [entry]},
        leaf_1=execution("leaf-1"),
        cancellations={"cancellations": [], "outstanding": 0, "oldest_age_ms": 0},
        workers={"workers": [worker]},
    )
    commands = {
        ("run", "report", "r", "--cancel-id", "c_1"): "Cancel c_1 of run r: open",
        ("run", "log", "r"): "at                           event             cancel  detail",
        ("execution", "show", "leaf-1"): "Execution leaf-1",
        ("cancellations", "--state", "all"): "No cancels",
        ("worker", "list"): "worker  incarnation  state   held  last seen  agent node",
    }
    with stub_server(answers) as server:
        for words, first in commands.items():
            code, out, error = cli(*words, "--server", server.url)
            assert (code, out.splitlines()[0], error) == (0, first, "")
            code, out, error = cli(*words, "--json", "--server", server.url)
            assert (code, out.count("\n"), error) == (0, 1, "")
            assert isinstance(json.loads(out), dict)
    assert server.asked[0].query == {"cancel_id": "c_1"}


def test_a_watch_says_each_change_once_and_ends_when_settled(cli: Cli) -> None:
    def reports() -> list[Any]:
        return [report(straggler("a")), report(straggler("a")), report()]

    with stub_server(_routes(cancellation=reports())) as server:
        code, out, _ = cli("run", "watch", "r", "--server", server.url)
    assert code == 0
    assert out.splitlines()[:3] == [
        "2 of 3 executions settled, still running: 1 (1 no_ack)",
        "2 executions settled, settled",
        "Cancel c_1 of run r: settled",
    ]
    with stub_server(_routes(cancellation=reports())) as server:
        code, out, _ = cli("run", "watch", "r", "--json", "--server", server.url)
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["open", "settled"]
    with stub_server(_routes(cancellation=report(straggler("a")))) as server:
        assert cli("run", "watch", "r", "--wait", "0.05", "--server", server.url)[0] == 3


def test_a_watch_gives_up_on_a_server_that_is_gone(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "UNANSWERED_S", 0.0)
    with stub_server(_routes(cancellation=[report(straggler("a")), Canned(b"", 503)])) as server:
        code, _, error = cli("run", "watch", "r", "--server", server.url)
    assert (code, error.count("\n")) == (6, 1)


def test_a_worker_is_declared_dead_in_the_incarnation_that_is_listed(cli: Cli) -> None:
    worker = {"worker_id": "w-1", "incarnation": 7, "alive": False, "last_seen_ms": 9000}
    dead = {"worker_id": "w-1", "incarnation": 7}
    with stub_server(_routes(workers={"workers": [worker]}, dead=dead)) as server:
        code, out, _ = cli("worker", "dead", "w-1", "--reason", "pod gone", "--server", server.url)
        assert code == 0
        assert out == "Worker w-1 declared dead (incarnation 7): what it held will be settled as lost\n"
        assert server.asked[-1].body == {"incarnation": 7, "reason": "pod gone"}
        assert (
            json.loads(cli("worker", "dead", "w-1", "--incarnation", "6", "--json", "--server", server.url)[1]) == dead
        )
        assert server.asked[-1].body == {"incarnation": 6}
        code, _, error = cli("worker", "dead", "w-2", "--server", server.url)
        assert (code, error.count("\n")) == (4, 1)
        assert "worker w-2 is not listed" in error
        for wrong in ("0", "-1", "one", "1.5", "9" * 17):
            code, _, error = cli("worker", "dead", "w-1", f"--incarnation={wrong}", "--server", server.url)
            assert (code, error.count("\n")) == (2, 1)
            assert f"--incarnation (BROKER_INCARNATION) {wrong!r}: allowed are whole numbers from 1" in error


def test_a_list_of_an_unknown_state_is_usage(cli: Cli) -> None:
    code, _, error = cli("cancellations", "--state", "closed")
    assert (code, error) == (2, "broker: --state (BROKER_STATE) 'closed': allowed are open, settled, all\n")


@pytest.mark.parametrize(
    "words",
    [
        *(("execution", one) for one in ("cancel", "cancel-run", "cancel-subtree", "show")),
        *(("run", one) for one in ("tree", "report", "watch", "log")),
        *(("worker", one) for one in ("list", "dead")),
        ("cancellations",),
    ],
)
def test_the_help_of_every_command_has_an_example(cli: Cli, words: tuple[str, ...]) -> None:
    code, out, _ = cli(*words, "--help")
    assert code == 0
    assert f"Example: broker {' '.join(words)}" in out
    for name in ("BROKER_SERVER", "BROKER_TOKEN", "BROKER_TIMEOUT", "BROKER_JSON"):
        assert name in out


def test_a_new_token_is_shown_once_with_the_line_that_the_server_wants(cli: Cli) -> None:
    from broker.server.tokens import Right, Tokens

    code, out, _ = cli("token", "new", "ops", "--scope", "cancel, observe")
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 4)
    token, line = lines[1].strip(), lines[3].strip()
    assert token not in line
    assert Tokens.parse(line, "test").check(token, Right.CANCEL) == "ops"
    made = json.loads(cli("token", "new", "ops", "--json")[1])
    assert Tokens.parse(made["line"], "test").check(made["token"], Right.OBSERVE) == "ops"
    assert made["token"] != token


@pytest.mark.parametrize(("name", "scope"), [("ops", "everything"), ("two words", "observe"), ("ops", "")])
def test_a_token_that_cannot_be_is_usage(cli: Cli, name: str, scope: str) -> None:
    code, out, error = cli("token", "new", name, f"--scope={scope}")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "NAME or --scope (BROKER_SCOPE)" in error


def test_doctor_says_what_is_wrong_and_how_to_mend_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("version", True, "version 7.0.15"), Finding("acl", None, "cannot be seen here")]

    async def check(url: str, timeout_s: float) -> list[Finding]:
        assert (url, timeout_s) == ("redis://elsewhere", 2.5)
        return found

    monkeypatch.setattr(broker.control, "check", check)
    words = ("doctor", "--redis-url", "redis://elsewhere", "--timeout", "2.5")
    code, out, _ = cli(*words)
    assert (code, out.splitlines()) == (
        0,
        [
            "ok   version  version 7.0.15",
            "?    acl      cannot be seen here",
            "Nothing to mend; 1 check could not be made here",
        ],
    )
    found.append(Finding("eviction", False, "allkeys-lru\x1b", "CONFIG SET maxmemory-policy noeviction"))
    code, out, _ = cli(*words)
    assert (code, out.splitlines()[2:]) == (
        1,
        [
            "bad  eviction  allkeys-lru\\x1b",
            "               mend: CONFIG SET maxmemory-policy noeviction",
            "1 thing to mend; 1 check could not be made here",
        ],
    )
    code, out, _ = cli(*words, "--json")
    assert (code, [one["ok"] for one in json.loads(out)["findings"]]) == (1, [True, None, False])


def test_doctor_of_a_redis_that_is_not_there_is_6(cli: Cli) -> None:
    code, out, error = cli("doctor", "--redis-url", "redis://127.0.0.1:1/0")
    assert (code, out, error.count("\n")) == (6, "", 1)


def _dead_event(dead_id: str, **fields: Any) -> dict[str, Any]:
    known = {"dead_id": dead_id, "source_id": "1-0", "refused_at": AT, "error": "invalid_id", "message": "a|b"}
    return {**known, "event": '{"execution_id":"a|b"}', **fields}


def test_dead_events_are_a_table_with_what_they_were(cli: Cli) -> None:
    events = [_dead_event("5-0"), _dead_event("6-0", event="x\x1b[31m" * 100)]
    with stub_server(_routes(dead={"events": events})) as server:
        code, out, error = cli("events", "dead", "--server", server.url)
        _, raw, _ = cli("events", "dead", "--json", "--server", server.url)
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[1].split() == ["5-0", AT, "invalid_id", "a|b"]
    assert lines[2] == '  {"execution_id":"a|b"}'
    assert lines[4].endswith("… (600 characters)")
    assert "\x1b" not in out
    assert json.loads(raw)["events"] == events
    with stub_server(_routes(dead={"events": []})) as server:
        assert cli("events", "dead", "--server", server.url)[1].startswith("No dead events")


def test_replay_names_what_was_not_replayed(cli: Cli) -> None:
    gone = {"dead_id": "6-0", "error": "not_found", "message": "dead event 6-0 not found"}
    answer = {"replayed": [{"dead_id": "5-0", "entry_id": "7-0"}], "refused": [gone]}
    with stub_server(_routes(replay=answer)) as server:
        code, out, _ = cli("events", "replay", "5-0", "6-0", "--server", server.url)
    assert (code, out.splitlines()) == (1, ["1 event replayed", "Not replayed: 6-0: dead event 6-0 not found"])
    assert server.asked[0].body == {"ids": ["5-0", "6-0"]}
    with stub_server(_routes(replay={"refused": [gone]})) as server:
        assert cli("events", "replay", "6-0", "--server", server.url)[0] == 4


def test_replay_of_all_is_what_is_listed_and_whole(cli: Cli) -> None:
    pages = [
        {"events": [_dead_event("5-0"), _dead_event("6-0", cut=True)], "next_cursor": "6-0"},
        {"events": [_dead_event("7-0")]},
    ]
    replayed = {"replayed": [{"dead_id": one, "entry_id": "9-0"} for one in ("5-0", "7-0")]}
    with stub_server(_routes(dead=pages, replay=replayed)) as server:
        code, out, _ = cli("events", "replay", "--all", "--json", "--server", server.url)
    assert (code, json.loads(out)) == (0, {**replayed, "refused": []})
    assert server.asked[-1].body == {"ids": ["5-0", "7-0"]}
    with stub_server(_routes(dead={"events": []})) as server:
        assert cli("events", "replay", "--all", "--server", server.url)[:2] == (0, "No dead events to replay\n")
    assert cli("events", "replay", "--all", "5-0")[0] == 2
    assert cli("events", "replay")[0] == 2
