"""Publishing a walk: every chunk in order, some under way while others are looked at, and none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from broker.cancel.follow import Follower
from broker.cancel.nodes import Results
from broker.cancel.publish import Publisher, Superseded, WalkAgain
from broker.cancel.survey import Snapshot
from broker.cancel.walk import Forest, walk
from broker.errors import BrokerUnavailable, StoreRefused
from broker.protocol.records import Facts, OperationRecord
from broker.store.operations import CHUNK, CHUNKS_IN_FLIGHT, Operations, Told
from tests.support.wait import wait_until
from tests.unit.test_report import OPERATION


class Script:
    """Answers the chunks in the order in which they were asked for, `codes` first and then `published`."""

    def __init__(self, *codes: str | Exception) -> None:
        self._codes = list(codes)
        self.asked: list[Sequence[str]] = []
        self.under_way, self.most = 0, 0
        self.silent_after: int | None = None

    async def publish(self, _: str, operation: OperationRecord, chunk: Sequence[str]) -> tuple[str, list[Told]]:
        code = self._codes.pop(0) if self._codes else "published"
        self.asked.append(chunk)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            answered = asyncio.get_running_loop().create_future()
            if self.silent_after is None or len(self.asked) <= self.silent_after:
                asyncio.get_running_loop().call_soon(answered.set_result, None)
            await answered
        finally:
            self.under_way -= 1
        if isinstance(code, Exception):
            raise code
        told = chunk if code == "published" else ()
        return code, [Told(one, "told", "running", operation.cancel_id) for one in told]


class Bench:
    """A publisher of so many executions, what it has told and what it was told."""

    def __init__(self, executions: int, *codes: str | Exception) -> None:
        walked = walk(Forest((f"e{number}", "", 1, number) for number in range(executions)))
        facts = [Facts("running", "", "")] * executions
        self.snapshot = Snapshot(walked.execution_ids, facts, walked.depths, walked)
        self.script, self.results = Script(*codes), Results()
        follower = Follower(None, None, "run-1")  # type: ignore[arg-type] # it does not listen, and asks nobody
        self.publisher = Publisher(
            cast(Operations, self.script), "run-1", OPERATION, self.snapshot, follower, self.results
        )

    async def publish(self) -> None:
        await self.publisher.publish(0, len(self.snapshot.executions))


@pytest.mark.parametrize("executions", [0, 1, CHUNK, CHUNK * CHUNKS_IN_FLIGHT * 3 + 1])
async def test_every_execution_is_told_once_and_in_order(executions: int) -> None:
    bench = Bench(executions)
    await bench.publish()
    assert [one for chunk in bench.script.asked for one in chunk] == list(bench.snapshot.executions)
    assert [node.execution_id for node in bench.results.nodes()] == list(bench.snapshot.executions)
    assert all(len(chunk) <= CHUNK for chunk in bench.script.asked)


async def test_chunks_are_under_way_while_others_are_looked_at_and_never_more_than_that() -> None:
    bench = Bench(CHUNK * CHUNKS_IN_FLIGHT * 4)
    await bench.publish()
    assert CHUNKS_IN_FLIGHT // 2 < bench.script.most <= CHUNKS_IN_FLIGHT


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        ("dirty", WalkAgain),
        ("fenced", Superseded),
        ("gone", Superseded),
        (BrokerUnavailable("away"), BrokerUnavailable),
    ],
)
async def test_a_walk_that_must_not_go_on_leaves_nothing_under_way(
    code: str | Exception, raised: type[Exception]
) -> None:
    bench = Bench(CHUNK * CHUNKS_IN_FLIGHT * 4, "published", code)
    with pytest.raises(raised):
        await bench.publish()
    assert bench.script.under_way == 0
    assert len(bench.script.asked) <= CHUNKS_IN_FLIGHT
    assert len(bench.results.nodes()) < len(bench.snapshot.executions)


async def test_a_chunk_that_redis_refuses_is_an_error_of_its_nodes_and_the_walk_goes_on() -> None:
    bench = Bench(CHUNK * 3, "published", StoreRefused("OOM"))
    await bench.publish()
    nodes = bench.results.nodes()
    assert [node.status for node in nodes] == ["cancelled"] * CHUNK + ["error"] * CHUNK + ["cancelled"] * CHUNK
    assert (nodes[CHUNK].skip_reason, nodes.errors, bench.publisher.refused) == ("OOM", CHUNK, True)


async def test_whoever_is_cancelled_waits_for_no_answer() -> None:
    bench = Bench(CHUNK * CHUNKS_IN_FLIGHT * 4)
    bench.script.silent_after = 0
    publishing = asyncio.create_task(bench.publish())
    await wait_until(lambda: bench.script.under_way == CHUNKS_IN_FLIGHT, "both halves are under way")
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await publishing
    assert bench.script.under_way == 0
