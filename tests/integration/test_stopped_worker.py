"""A worker process is stopped for longer than its heartbeat, replaced by another of its id, and continued."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import broker
from broker.protocol.records import ExecutionRecord
from tests.support.parts import Parts
from tests.support.points import PATIENCE_S
from tests.support.tree import ROOT
from tests.support.wait import wait_until

RUN = "run-1"


class StableWorker:
    """A process of `tests.support.stable_worker`, and what it has printed so far."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.said.append(line.decode().strip())

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    async def says(self, line: str) -> None:
        await wait_until(lambda: line in self.said, f"{line!r}; it said {self.said}", PATIENCE_S)

    async def end_of(self, execution_id: str) -> str:
        """How the block around the body ended."""

        def word() -> str | None:
            return next((said.split()[2] for said in self.said if said.startswith(f"ended {execution_id} ")), None)

        found = await wait_until(word, f"{execution_id} to end; it said {self.said}", PATIENCE_S)
        assert found is not None
        return found

    async def leave(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
            await self._reading
        return code

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def stable_worker(url: str, worker_id: str) -> AsyncIterator[StableWorker]:
    """In a session of its own, because a stopped process in the group of the tests would be a danger to them."""
    command = [sys.executable, "-m", "tests.support.stable_worker", url, RUN, worker_id]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=ROOT, start_new_session=True)
    worker = StableWorker(process)
    try:
        await worker.says("ready")
        yield worker
    finally:
        if process.returncode is None:
            process.kill()  # also ends one that is stopped
        await process.wait()


async def record_of(parts: Parts, execution_id: str) -> ExecutionRecord:
    record = await parts.reads.execution(RUN, execution_id)
    assert record is not None
    return record


async def until_heart_is_missed(parts: Parts) -> None:
    async def missed() -> bool:
        return await parts.claims.has_died("w")

    await wait_until(missed, "the heartbeat of the stopped process to expire", PATIENCE_S)


async def until_disposition(parts: Parts, execution_id: str, word: str) -> None:
    async def is_so() -> bool:
        ack = await parts.ack_of(RUN, execution_id)
        return ack is not None and ack.disposition == word

    await wait_until(is_so, f"{execution_id} to be {word}", PATIENCE_S)


async def test_t29_a_stopped_worker_that_goes_on_neither_works_on_nor_corrupts_the_newer_one(
    redis_url: str, b: broker.Broker, parts: Parts
) -> None:
    async with stable_worker(redis_url, "w") as first:
        for execution_id in ("cancelled", "taken-over"):
            first.tell(f"hold {execution_id}")
            await first.says(f"inside {execution_id}")
        first.stop()
        report = await b.cancel_execution("cancelled")
        await until_heart_is_missed(parts)
        await parts.sweep_now(RUN, report.cancel_id)
        (one,) = (await b.report(RUN, report.cancel_id)).still_running
        assert one.cause == "worker_lost", "a suspicion, not a proof"

        async with stable_worker(redis_url, "w") as second:
            await parts.sweep_now(RUN, report.cancel_id)
            lost = await b.report(RUN, report.cancel_id)
            assert (lost.state, lost.dispositions) == ("settled", {"lost": 1})
            second.tell("hold taken-over")
            await second.says("inside taken-over")
            newer = await record_of(parts, "taken-over")
            assert (newer.incarnation, newer.start, newer.claimed) == ("2", "2", True)

            first.go_on()
            assert await first.end_of("taken-over") == "Fenced"
            assert await first.end_of("cancelled") in ("Fenced", "ExecutionCancelled")
            await until_disposition(parts, "cancelled", "stopped")
            assert await first.leave() == 0
            assert await record_of(parts, "taken-over") == newer
            assert (await b.report(RUN, report.cancel_id)).state == "settled"
            assert (await parts.reads.workers(["w"]))["w"].beating == 2, "its record is the newer one's"

            second.tell("end taken-over")
            assert await second.end_of("taken-over") == "well"
            assert (await record_of(parts, "taken-over")).raw_status == "succeeded"
            assert await second.leave() == 0


async def test_t29_a_stopped_worker_that_goes_on_under_a_cancelled_run_stops_all_it_holds(
    redis_url: str, b: broker.Broker, parts: Parts
) -> None:
    """No newer process: it was declared dead. What it held is lost, and then, by its own word, stopped."""
    async with stable_worker(redis_url, "w") as worker:
        ids = ["x", "y", "z"]
        for execution_id in ids:
            worker.tell(f"hold {execution_id}")
            await worker.says(f"inside {execution_id}")
        worker.stop()
        await until_heart_is_missed(parts)
        report = await b.cancel_run(RUN)
        assert await parts.claims.declare_dead("w", 1, "it does not answer") == 2
        await parts.sweep_now(RUN, report.cancel_id)
        lost = await b.report(RUN)
        assert (lost.state, lost.dispositions) == ("settled", {"lost": 3})
        worker.go_on()
        for execution_id in ids:
            assert await worker.end_of(execution_id) in ("Fenced", "ExecutionCancelled")
            await until_disposition(parts, execution_id, "stopped")
        assert await worker.leave() == 0
        await parts.sweep_now(RUN, report.cancel_id)
        after = await b.report(RUN)
        assert (after.state, after.dispositions) == ("settled", {"stopped": 3})
