"""A worker in Node that knows nothing but the page of protocol, beside one in Python."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

import broker
from broker.cli.conformance.proxy import Gate, Proxy
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
        with started(node_worker, redis_url, "run-1", "leaf-1", BROKER_END_KEY="may-end") as process:
            await runs(control, "leaf-1")
            await let(redis_url, "may-end", "leaf-1")
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


async def let(redis_url: str, key: str, execution_id: str) -> None:
    """What a worker waits for: see `broker conformance --help`."""
    async with Redis.from_url(redis_url) as client:
        await client.sadd(key, execution_id)
        await client.expire(key, 60)


@asynccontextmanager
async def broken_line(redis_url: str) -> AsyncIterator[tuple[str, Gate]]:
    """A URL, and the gate in which whoever subscribes to a leaf again stands."""
    at = urlsplit(redis_url)
    proxy, again, first = Proxy(at.hostname or "", at.port or 0), Gate(), asyncio.Event()

    async def on_command(words: tuple[str, ...]) -> bool:
        if words[0].upper() == "SUBSCRIBE" and any(word.endswith("-leaf") for word in words):
            if first.is_set():
                return await again.pass_on()
            first.set()
        return True

    proxy.on_command = on_command
    try:
        yield f"redis://127.0.0.1:{await proxy.start()}{at.path}", again
    finally:
        await proxy.close()


async def cancelled_while_away(redis_url: str, kind: str, command: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """CLIENT KILL takes its subscription, the cancel is published before it is back; what is reported of that.

    Its heart beats once an hour and the broker tells it once: only the confirmation of its next SUBSCRIBE can help.
    """
    run, leaf = f"run-{kind}", f"{kind}-leaf"
    env = {"BROKER_HEARTBEAT_MS": "3600000", "BROKER_STOP_KEY": f"{kind}-may-stop"}
    async with broker.connect(redis_url, ingest=True, sweep=False) as control, broken_line(redis_url) as (url, again):
        await control.register(run, [broker.Execution(leaf)])
        with started(command, url, run, leaf, **env) as process:
            await runs(control, leaf)
            async with Redis.from_url(redis_url) as client:
                assert await client.client_kill_filter(_type="pubsub") >= 1
            await wait_until(again.is_reached, "it to subscribe again", PATIENCE_S)
            during = await control.cancel_run(run, reason="why", requested_by="ops")
            assert [one.disposition for one in during.still_running] == ["asked"]
            again.open()
            await wait_until(lambda: _is_received(control, run), "`received`", PATIENCE_S)
            await let(redis_url, f"{kind}-may-stop", leaf)
            report = comparable(report_answer(await settled(control, run)))
            await ended(process)
        view = comparable(execution_answer(await control.execution(leaf)))
    view["execution_id"] = view["execution_id"].removeprefix(kind)
    return report, view


async def _is_received(control: broker.Broker, run: str) -> bool:
    return [one.disposition for one in (await control.report(run)).still_running] == ["received"]


@pytest.mark.needs(Capability.OWN_PROCESS)  # fakeredis does not know CLIENT KILL TYPE
async def test_it_reconnects_and_is_reported_exactly_like_a_python_one(redis_url: str, node_worker: list[str]) -> None:
    python = await cancelled_while_away(redis_url, "python", PYTHON)
    node_one = await cancelled_while_away(redis_url, "node", node_worker)
    assert node_one == python, "both the report and the execution, field by field"
    report, view = node_one
    assert (report["dispositions"], report["ack_lag"]) == ({"stopped": 1}, {"received": 1, "stopped": 1})
    assert (view["disposition"], view["status"], view["claim"]) == ("stopped", "cancelled", None)


def test_it_keeps_every_rule(node_worker: list[str]) -> None:
    assert conformance(*node_worker) == (0, "All 16 rules are kept")


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
