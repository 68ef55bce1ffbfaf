"""A worker in Node that knows nothing but the page of protocol, beside one in Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

import broker
from broker.server.answers import execution_answer, report_answer
from tests.support import node
from tests.support.backends import Capability
from tests.support.cli import Cli
from tests.support.points import PATIENCE_S
from tests.support.tree import ROOT
from tests.support.wait import wait_until

PYTHON = [sys.executable, "-m", "tests.support.harness_worker"]
TIMES = ("requested_at", "settled_at", "deadline_at", "registered_at", "started_at", "published_at", "received_at")
NAMES = ("run_id", "cancel_id")


@pytest.fixture(scope="module")
def node_worker(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return node.install(tmp_path_factory.mktemp("node-worker"))


@contextmanager
def started(command: list[str], url: str, run: str, *executions: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    ids = {"BROKER_REDIS_URL": url, "BROKER_RUN_ID": run, "BROKER_EXECUTION_IDS": " ".join(executions)}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ids, **env}) as process:
        try:
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def control_plane(url: str) -> AsyncIterator[broker.Broker]:
    async with broker.connect(url, ingest=True) as control:
        yield control


async def runs(control: broker.Broker, execution_id: str) -> None:
    async def is_claimed() -> bool:
        try:
            return (await control.execution(execution_id)).claim is not None
        except broker.NotFound:
            return False

    await wait_until(is_claimed, f"{execution_id} to run", PATIENCE_S)


async def settled(control: broker.Broker, run: str) -> broker.CancelReport:
    report = await control.report(run, wait=PATIENCE_S)
    assert report.state == "settled", report
    return report


async def ended(process: subprocess.Popen[bytes]) -> None:
    assert await wait_until(lambda: process.poll() is not None, "the worker to leave", PATIENCE_S)
    assert process.returncode == 0


def comparable(answer: Any) -> dict[str, Any]:
    """Everything that is reported but names, times and durations; of those, whether they are there."""
    said: dict[str, Any] = json.loads(answer.model_dump_json())
    for name in (*TIMES, *NAMES):
        if name in said:
            said[name] = said[name] is not None
    if "ack_lag" in said:
        said["ack_lag"] = {word: lag["count"] for word, lag in said["ack_lag"].items()}
    return said


async def test_a_node_worker_is_cancelled_and_leaves(redis_url: str, node_worker: list[str]) -> None:
    async with control_plane(redis_url) as control:
        with started(node_worker, redis_url, "run-1", "leaf-1", "leaf-2") as process:
            await runs(control, "leaf-1")
            await runs(control, "leaf-2")
            narrow = await control.cancel_execution("leaf-1", wait=PATIENCE_S)
            assert dict(narrow.dispositions) == {"stopped": 1}
            assert (await control.execution("leaf-2")).status == "running"
            await control.cancel_run("run-1")
            assert dict((await settled(control, "run-1")).dispositions) == {"stopped": 2}
            await ended(process)


async def test_its_own_end_is_told_from_a_stop(redis_url: str, node_worker: list[str]) -> None:
    async with control_plane(redis_url) as control:
        with started(node_worker, redis_url, "run-1", "leaf-1", BROKER_WORK_MS="1") as process:
            await ended(process)

            async def status() -> str:
                try:
                    return (await control.execution("leaf-1")).status
                except broker.NotFound:
                    return ""

            await wait_until(lambda: _is("succeeded", status), "its end", PATIENCE_S)
            assert (await control.execution("leaf-1")).claim is None


async def _is(word: str, read: Any) -> bool:
    return bool(await read() == word)


@pytest.mark.needs(Capability.OWN_PROCESS)  # fakeredis does not know CLIENT KILL TYPE
async def test_it_reconnects_and_is_reported_like_a_python_one(redis_url: str, node_worker: list[str]) -> None:
    """Its subscription is killed, and cancelled meanwhile: both reports are the same, field by field."""
    reports, views = [], []
    async with control_plane(redis_url) as control:
        for kind, command in (("python", PYTHON), ("node", node_worker)):
            run, leaf = f"run-{kind}", f"{kind}-leaf"
            await control.register(run, [broker.Execution(leaf)])
            with started(command, redis_url, run, leaf, BROKER_HEARTBEAT_MS="3600000", BROKER_STOP_MS="200") as process:
                await runs(control, leaf)
                async with Redis.from_url(redis_url) as client:
                    assert await client.client_kill_filter(_type="pubsub") >= 1
                await control.cancel_run(run, reason="why", requested_by="ops")
                reports.append(comparable(report_answer(await settled(control, run))))
                await ended(process)
            views.append(comparable(execution_answer(await control.execution(leaf))))
            views[-1]["execution_id"] = views[-1]["execution_id"].removeprefix(kind)
    assert reports[0] == reports[1]
    assert views[0] == views[1]
    assert (views[1]["disposition"], views[1]["status"], views[1]["claim"]) == ("stopped", "cancelled", None)


@pytest.mark.timed
def test_it_keeps_every_rule(node_worker: list[str]) -> None:
    assert conformance(*node_worker) == (0, "All 16 rules are kept")


@pytest.mark.timed
def test_the_python_sdk_keeps_every_rule() -> None:
    assert conformance(*PYTHON) == (0, "All 16 rules are kept")


def test_a_program_that_does_nothing_breaks_the_rule_and_it_is_said(cli: Cli) -> None:
    nothing = ("--patience", "0.1", "--rule", "push", "--", sys.executable, "-c", "")
    code, said = conformance(*nothing)
    assert (code, said) == (1, "1 rule, 1 broken")
    assert cli("conformance", "--rule", "nonsense", "--", "true")[0] == 2
    assert cli("conformance", "--redis-url", "rediss://127.0.0.1:1/0", "--", "true")[0] in (2, 6)
    assert cli("conformance", "--rule", "push", "--", "./there-is-no-such-program")[0] == 2


def conformance(*arguments: str) -> tuple[int, str]:
    """Exit code, and the last line."""
    command = [
        sys.executable,
        "-m",
        "broker",
        "conformance",
        *(() if "--" in arguments else ("--patience", "30", "--")),
    ]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    lines = done.stdout.splitlines()
    if done.returncode == 1 and "broken" not in (lines or [""])[-1]:
        raise AssertionError(done.stdout + done.stderr)
    return done.returncode, lines[-1] if lines else done.stderr
