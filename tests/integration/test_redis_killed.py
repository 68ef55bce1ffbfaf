"""Redis is killed in the middle of a cancel of 1,000 executions, and comes back with what it had acknowledged."""

from __future__ import annotations

import asyncio
import sys

import pytest

import broker
from broker.cancel import reassert
from tests.support.observer import observing
from tests.support.points import doing
from tests.support.redis_server import RedisServer
from tests.support.tree import ROOT
from tests.support.wait import wait_until

RUN = "run-1"
HELD = 1000
PROCESSES = 2
PATIENCE_S = 60.0


async def _worker(url: str, number: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.fleet_worker", url, RUN,
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write("".join(f"x-{one} \n" for one in range(number, HELD, PROCESSES)).encode())
    process.stdin.close()
    return process


async def _says(process: asyncio.subprocess.Process, word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readline() == f"{word} {HELD // PROCESSES}\n".encode()


@pytest.mark.parametrize("point", ["cancel.loaded", "cancel.chunk", "cancel.published"])
async def test_t08_redis_is_killed_during_a_cancel_and_nothing_is_lost(
    point: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker is restarted: each body stops once, and says so; settled is said when all have."""
    monkeypatch.setattr(reassert, "SETTLE_AFTER_US", 0)
    monkeypatch.setattr("broker.cancel.publish.AT_A_TIME", 1)

    async def crash() -> None:
        redis_server.kill()
        await asyncio.to_thread(redis_server.restart)

    processes = [await _worker(redis_server.url, number) for number in range(PROCESSES)]
    try:
        await asyncio.gather(*(_says(process, "holding") for process in processes))
        async with broker.connect(redis_server.url, timeout=PATIENCE_S) as control:
            with doing(point, crash):
                report = await control.cancel_run(RUN, wait=PATIENCE_S)
            await asyncio.gather(*(_says(process, "stopped") for process in processes))

            async def settled() -> bool:
                return (await control.report(RUN)).settled

            await wait_until(settled, "the cancel to settle", timeout=PATIENCE_S)
            report = await control.report(RUN, report.cancel_id)
            assert (report.totals.executions, report.totals.still_running) == (HELD, 0)
            assert report.dispositions == {"stopped": HELD}
            async with observing(redis_server.url) as observer:
                assert (await control.cancel_run(RUN)).cancel_id == report.cancel_id
                assert await observer.messages() == [], "a settled one is told to nobody"
        assert [await process.wait() for process in processes] == [0] * PROCESSES
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
