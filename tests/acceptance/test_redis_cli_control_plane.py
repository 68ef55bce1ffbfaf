"""A control plane of plain redis-cli: it tells of a tree, and cancels it in all three scopes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

import broker
from tests.support.points import PATIENCE_S
from tests.support.tree import ROOT
from tests.support.wait import wait_until

SCRIPT = ROOT / "deploy" / "examples" / "redis-cli-control-plane" / "control-plane.sh"
TREE = ("root", "middle", "leaf-1", "leaf-2")


@pytest.fixture(autouse=True)
def redis_cli() -> None:
    """It comes with redis-server; where there is only fakeredis, there is none."""
    if shutil.which("redis-cli") is None:
        message = "NOT TESTED: there is no redis-cli on PATH; it comes with redis-server (redis-tools)"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


class ControlPlane:
    def __init__(self, url: str) -> None:
        self._env = {**os.environ, "REDIS_URL": url}

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(SCRIPT), *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    @contextmanager
    def watching(self, run: str) -> Iterator[subprocess.Popen[str]]:
        command = ["sh", str(SCRIPT), "watch", run]
        with subprocess.Popen(command, env=self._env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "subscribe"
            try:
                yield process
            finally:
                process.kill()


async def statuses(control: broker.Broker, run: str) -> dict[str, str]:
    try:
        return {one.execution_id.removeprefix(f"{run}."): one.status for one in (await control.run(run)).nodes}
    except broker.NotFound:
        return {}


async def expect(control: broker.Broker, run: str, **cancelled: bool) -> None:
    """Which of the tree are cancelled; the others are queued."""
    expected = {one: "cancelled" if one.replace("-", "_") in cancelled else "queued" for one in TREE}

    async def is_so() -> bool:
        return await statuses(control, run) == expected

    await wait_until(is_so, f"{expected}", PATIENCE_S)


async def test_the_three_scopes(redis_url: str) -> None:
    control_plane = ControlPlane(redis_url)
    async with broker.connect(redis_url, ingest=True) as control:
        control_plane("tree", "run-1")
        await expect(control, "run-1")
        control_plane("cancel-execution", "run-1", "run-1.leaf-1")
        await expect(control, "run-1", leaf_1=True)
        control_plane("cancel-subtree", "run-1", "run-1.middle")
        await expect(control, "run-1", leaf_1=True, middle=True, leaf_2=True)
        control_plane("cancel-run", "run-1")
        await expect(control, "run-1", leaf_1=True, middle=True, leaf_2=True, root=True)
        report = await control.report("run-1", wait=PATIENCE_S)
        assert (report.state, report.reason, report.requested_by) == ("settled", "asked for", "redis-cli")
        assert (await control.ingest_state()).dead == 0


async def test_the_watch_prints_the_acks(redis_url: str) -> None:
    control_plane = ControlPlane(redis_url)
    async with broker.connect(redis_url, ingest=True) as control:
        with control_plane.watching("run-1") as watch:
            assert watch.stdout is not None
            async with broker.Worker(redis_url) as worker:
                with suppress(broker.ExecutionCancelled):
                    async with worker.execution("run-1", "leaf-1") as execution:
                        control_plane("cancel-run", "run-1")
                        await wait_until(lambda: execution.cancel_requested, "the cancel", PATIENCE_S)
            lines = iter(watch.stdout.readline, "")
            messages = (json.loads(line) for line in lines if line.startswith("{"))
            message = next(one for one in messages if ["leaf-1", "stopped"] in one["acks"])
            assert message["type"] == "acks"
        assert (await control.report("run-1")).state == "settled"


def test_a_hostile_id_never_reaches_redis(redis_url: str) -> None:
    control_plane = ControlPlane(redis_url)
    for hostile in ('x","type":"run.cancel_requested', "@x", "a b", ""):
        assert "is no id" in control_plane("cancel-run", hostile, code=2).stderr
    assert "allowed are tree" in control_plane("explode", "run-1", code=2).stderr
    assert "control-plane.sh tree RUN" in control_plane(code=2).stderr
