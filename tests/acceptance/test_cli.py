"""What an operator types at 3 a.m., against the real server, with real workers behind it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

import broker
from broker.errors import ExecutionCancelled
from tests.support.cli import Cli
from tests.support.http import Server, register, serving
from tests.support.points import PATIENCE_S
from tests.support.wait import wait_until_sync

RUN = "nightly"


@pytest.fixture
def at_server(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("BROKER_SERVER", server.url)
    return cli


class Fleet:
    """One worker process's worth of threads: bodies that obey, and bodies that only their test ends."""

    def __init__(self, redis_url: str) -> None:
        self.worker = broker.Worker(redis_url, worker_id="w-1", agent_node_id="gpu-7")
        self.release = threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self, execution_id: str, *, obeys: bool) -> None:
        """Returns when the body stands at its first line."""
        inside = threading.Event()
        arguments = (execution_id, obeys, inside)
        thread = threading.Thread(target=self._body, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)
        assert inside.wait(PATIENCE_S), f"{execution_id} did not start"

    def _body(self, execution_id: str, obeys: bool, inside: threading.Event) -> None:
        with suppress(ExecutionCancelled), self.worker.execution(RUN, execution_id) as execution:
            inside.set()
            if obeys:
                execution.wait(PATIENCE_S)
                execution.raise_if_cancelled()
            self.release.wait(PATIENCE_S)

    def end(self) -> None:
        self.release.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


@contextmanager
def _fleet(redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(redis_url)
    with fleet.worker:
        try:
            yield fleet
        finally:
            fleet.end()


def _register(server: Server) -> None:
    register(
        server.client,
        RUN,
        {"execution_id": "planner"},
        {"execution_id": "train", "parent_execution_id": "planner"},
        {"execution_id": "upload", "parent_execution_id": "train"},
        {"execution_id": "mail", "parent_execution_id": "planner", "status": "succeeded"},
    )


def _causes(server: Server) -> dict[str, str]:
    report = server.client.get(f"/api/v1/runs/{RUN}/cancellation").json()
    return {one["execution_id"]: one["cause"] for one in report["still_running"]}


def test_a_run_is_cancelled_its_straggler_named_and_followed_to_its_end(
    at_server: Cli, server: Server, redis_url: str
) -> None:
    _register(server)
    with _fleet(redis_url) as fleet:
        fleet.run("train", obeys=True)
        fleet.run("upload", obeys=False)
        code, out, error = at_server("execution", "cancel-run", RUN, "--reason", "bad\x1b prompt", "--wait", "0")
        assert (code, error) == (3, "")
        assert out.splitlines()[0] == "Run nightly cancelled: 3 cancelled, 1 skipped, 0 errors"
        assert out.splitlines()[-1].startswith("See: broker run report nightly --cancel-id ")
        wait_until_sync(lambda: _causes(server) == {"upload": "stopping"}, "the end of the one that obeys")
        code, out, _ = at_server("execution", "cancel-run", RUN, "--wait", "0")
        assert (code, out.splitlines()[1]) == (3, "Still running: 1")
        straggler = out.splitlines()[2]
        assert straggler.startswith("  upload on w-1 (gpu-7): stopping (its worker heard and is stopping), told ")

        code, out, _ = at_server("run", "tree", RUN)
        assert code == 0
        drawn = out.splitlines()
        assert any("received: stopping" in line and "upload  on w-1" in line for line in drawn)
        assert any("stopped" in line and "train" in line for line in drawn)
        assert any("never_started" in line and "planner" in line for line in drawn)

        code, out, _ = at_server("cancellations")
        assert (code, out.splitlines()[0].startswith("1 cancel, 1 execution still running")) == (0, True)
        assert "run nightly by " in out
        assert "bad\\x1b prompt" in out
        code, out, _ = at_server("execution", "show", "upload")
        assert (code, "held by      w-1 (incarnation 1, start 1)" in out) == (0, True)
        assert at_server("run", "watch", RUN, "--wait", "0")[0] == 3
        fleet.release.set()
        code, out, _ = at_server("run", "watch", RUN, "--wait", str(PATIENCE_S))
        assert code == 0
        assert out.splitlines()[-1] == "Still running: 0"
    code, out, _ = at_server("run", "report", RUN)
    assert (code, "of run nightly: settled" in out.splitlines()[0]) == (0, True)
    assert at_server("cancellations")[1] == "No open cancels\n"
    code, out, _ = at_server("execution", "cancel-run", RUN, "--wait", "9")
    assert (code, out.splitlines()) == (
        0,
        ["Run nightly cancelled: 0 cancelled, 4 skipped, 0 errors", "Still running: 0"],
    )
    code, _, error = at_server("execution", "cancel", "mail")
    assert (code, error) == (5, "broker: execution mail is in terminal state 'succeeded'\n")


def test_what_is_not_known_is_4(at_server: Cli, server: Server) -> None:
    _register(server)
    for words, text in (
        (("execution", "cancel-run", "nope"), "run nope not found"),
        (("execution", "cancel", "nope"), "execution nope not found"),
        (("execution", "cancel-subtree", "nope"), "execution nope not found"),
        (("execution", "show", "nope"), "nope not found"),
        (("run", "tree", "nope"), "nope not found"),
        (("run", "report", RUN), RUN),
        (("execution", "cancel-run", "nope", "--dry-run"), "nope not found"),
    ):
        code, out, error = at_server(*words)
        assert (code, out, error.count("\n")) == (4, "", 1), words
        assert text in error


def test_a_dry_run_changes_nothing(at_server: Cli, server: Server) -> None:
    _register(server)
    before = server.client.get(f"/api/v1/runs/{RUN}").json()
    code, out, _ = at_server("execution", "cancel-run", RUN, "--dry-run")
    assert (code, out.splitlines()[0]) == (
        0,
        "Would cancel 3 of 4 executions of run nightly (dry run: nothing was changed)",
    )
    code, out, _ = at_server("execution", "cancel-subtree", "train", "--dry-run")
    assert out.startswith("Would cancel 2 of 2 executions of subtree train of run nightly")
    code, out, _ = at_server("execution", "cancel", "train", "--dry-run", "--json")
    assert json.loads(out)["would_cancel"] == 1
    assert server.client.get(f"/api/v1/runs/{RUN}").json() == before


def test_one_execution_warns_of_the_others_and_a_subtree_is_whole(at_server: Cli, server: Server) -> None:
    _register(server)
    code, out, _ = at_server("execution", "cancel", "upload", "--reason", "wrong bucket", "--wait", "30")
    assert (code, out.splitlines()) == (
        0,
        [
            "Execution upload cancelled (was: pending)",
            "Reason: wrong bucket",
            "Warning: Cancelled only execution upload; 2 other non-terminal execution(s) remain in run nightly."
            " Use cancel-tree to stop the whole run.",
            "Suggestion: POST /api/v1/workflows/nightly/cancel-tree",
            "Still running: 0",
        ],
    )
    code, out, _ = at_server("execution", "cancel-subtree", "train", "--order", "bottom_up_barrier", "--wait", "30")
    assert (code, out.splitlines()) == (
        0,
        ["Subtree train cancelled: 1 cancelled, 1 skipped, 0 errors", "Still running: 0"],
    )
    code, out, _ = at_server("execution", "show", "planner")
    assert (code, "status       pending" in out) == (0, True)


def test_an_execution_without_a_run_is_cancelled_waited_for_and_shown(at_server: Cli, server: Server) -> None:
    server.client.post("/api/v1/executions", json={"execution_id": "solo", "status": "running"})
    code, out, error = at_server("execution", "cancel", "solo", "--wait", "0.2")
    assert (code, error) == (3, "")
    assert out.splitlines()[1] == "Still running: 1"
    assert out.splitlines()[2].startswith("  solo on no worker: no_worker")
    assert out.splitlines()[3] == "See: broker execution show solo"
    code, out, _ = at_server("execution", "show", "solo")
    assert (code, "disposition  asked: no_worker" in out) == (0, True)


def test_a_big_run_is_drawn_page_by_page(at_server: Cli, server: Server) -> None:
    register(server.client, RUN, {"execution_id": "root"})
    register(server.client, RUN, *({"execution_id": f"n{n}", "parent_execution_id": "root"} for n in range(2_400)))
    code, out, _ = at_server("run", "tree", RUN, "--all")
    assert (code, len(out.splitlines())) == (0, 2_403)
    code, out, _ = at_server("run", "tree", RUN)
    assert (code, len(out.splitlines())) == (0, 2_003)
    assert out.splitlines()[-1].startswith("401 executions not drawn")


def test_the_same_idempotency_key_is_the_same_cancel(at_server: Cli, server: Server) -> None:
    _register(server)
    words = ("--idempotency-key", "k-1", "--json")
    first = json.loads(at_server("execution", "cancel-run", RUN, *words)[1])
    assert json.loads(at_server("execution", "cancel-run", RUN, *words)[1])["cancel_id"] == first["cancel_id"]
    code, _, error = at_server("execution", "cancel-subtree", "planner", *words)
    assert (code, error.count("\n")) == (1, 1)


def test_tokens_decide_what_may_be_typed(cli: Cli, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        name: json.loads(cli("token", "new", name, "--scope", scope, "--json")[1])
        for name, scope in (("looker", "observe"), ("ops", "cancel,publish"))
    }
    tokens = "\n".join(one["line"] for one in made.values())
    with serving(redis_url, tokens=tokens) as server:
        monkeypatch.setenv("BROKER_SERVER", server.url)
        server.client.headers["X-API-Key"] = made["ops"]["token"]
        _register(server)
        code, _, error = cli("run", "tree", RUN)
        assert (code, error.count("\n")) == (1, 1)
        assert "wants a token: set BROKER_TOKEN" in error
        monkeypatch.setenv("BROKER_TOKEN", "wrong")
        code, _, error = cli("run", "tree", RUN)
        assert (code, "does not know this token" in error) == (1, True)
        monkeypatch.setenv("BROKER_TOKEN", made["looker"]["token"])
        assert cli("run", "tree", RUN)[0] == 0
        code, _, error = cli("execution", "cancel-run", RUN)
        assert (code, error.count("\n")) == (1, 1)
        assert "the token may not do this" in error
        monkeypatch.setenv("BROKER_TOKEN", made["ops"]["token"])
        assert cli("execution", "cancel-run", RUN, "--wait", "30")[0] == 0
        code, out, _ = cli("run", "report", RUN)
        assert (code, " by ops; settled " in out) == (0, True)


def test_a_server_that_has_stopped_is_6(at_server: Cli, server: Server) -> None:
    server.stop()
    code, _, error = at_server("cancellations")
    assert (code, error.count("\n")) == (6, 1)
    assert "is `broker serve` running there?" in error


def test_doctor_looks_at_a_real_redis(cli: Cli, redis_url: str) -> None:
    code, out, error = cli("doctor", "--redis-url", redis_url)
    assert error == ""
    assert code == int("bad " in out)
    assert "version" in out


def test_a_watch_hears_of_changes_by_the_stream_and_goes_on_when_the_server_is_another(
    cli: Cli, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second server has the port of the first; nobody tells the watch."""
    with serving(redis_url) as first, _fleet(redis_url) as fleet:
        monkeypatch.setenv("BROKER_SERVER", first.url)
        _register(first)
        fleet.run("train", obeys=True)
        fleet.run("upload", obeys=False)
        cli("execution", "cancel-run", RUN, "--wait", "0")
        command = [sys.executable, "-m", "broker", "run", "watch", RUN]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            assert "still running: 1" in watching.stdout.readline()  # a watch whose first look fails ends there
            wait_until_sync(lambda: first.streams() == 1, "the watch to follow the stream", 30.0)
            first.stop()
            with serving(redis_url, port=int(first.url.rpartition(":")[2])) as second:
                wait_until_sync(lambda: second.streams() == 1, "the watch to follow that of the other server", 30.0)
                fleet.release.set()
                said = watching.stdout.read()
    assert watching.returncode == 0
    assert said.splitlines()[-1] == "Still running: 0"


def test_a_watch_without_streams_asks_by_the_clock(cli: Cli, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(redis_url, max_event_streams=0) as server, _fleet(redis_url) as fleet:
        monkeypatch.setenv("BROKER_SERVER", server.url)
        _register(server)
        fleet.run("upload", obeys=True)
        cli("execution", "cancel-run", RUN, "--wait", "0")
        assert cli("run", "watch", RUN, "--wait", str(PATIENCE_S))[0] == 0
        assert cli("run", "watch", "nope")[0] == 4
