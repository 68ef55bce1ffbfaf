"""What workers' own connections went through is counted in Redis: once, whoever is scraped, whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

import broker
from broker.errors import BrokerUnavailable
from broker.store.claims import Claims, Holder
from broker.store.counts import Counts
from broker.worker.links import Links
from tests.support.fleet import open_fleet
from tests.support.parts import HOLDER, Parts
from tests.support.wait import wait_until


def of_workers(counts: Mapping[str, int]) -> dict[str, int]:
    return {field: number for field, number in counts.items() if field.startswith("worker_")}


async def test_a_worker_that_was_cut_off_says_so_and_every_replica_tells_it(redis_url: str) -> None:
    async with open_fleet(redis_url, heartbeat_s=0.05) as fleet, broker.connect(redis_url, sweep=False) as other:

        async def counted() -> dict[str, int]:
            return of_workers((await fleet.control.figures.shared()).counts)

        assert await counted() == {}, "the first connection is none that had to be made again"
        await fleet.body("x").begun()
        await fleet.kill_pubsub()
        await wait_until(counted, "the reconnect to be counted")
        assert await counted() == {"worker_reconnects|listener": 1}
        assert of_workers((await other.figures.shared()).counts) == {"worker_reconnects|listener": 1}


class Flaky(Claims):
    """Adds, and loses the answer, as often as it is told."""

    unheard = 0

    async def add_counts(self, holder: Holder, number: int, rises: Mapping[str, int]) -> None:
        await super().add_counts(holder, number, rises)
        if self.unheard:
            self.unheard -= 1
            raise BrokerUnavailable("Redis did not answer")


async def test_what_is_said_again_because_the_answer_was_lost_counts_once(parts: Parts) -> None:
    claims, seen = Flaky(parts.backend), {"worker_canary_failures": 0, "worker_reconnects|commands": 0}
    links = Links(claims, HOLDER, lambda: dict(seen))
    seen["worker_canary_failures"], claims.unheard = 2, 2
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await links.tell()
        seen["worker_canary_failures"] += 1
    for _ in range(3):
        await links.tell()
    assert of_workers(await Counts(parts.backend).read()) == {"worker_canary_failures": 4}


async def test_two_workers_add_up_and_a_process_that_starts_anew_begins_at_nothing(parts: Parts) -> None:
    for holder in (Holder("w-1", 1), Holder("w-2", 1), Holder("w-1", 2)):
        links = Links(Claims(parts.backend), holder, lambda: {"worker_reconnects|listener": 3})
        await asyncio.gather(links.tell(), links.tell())
    assert of_workers(await Counts(parts.backend).read()) == {"worker_reconnects|listener": 9}


async def test_a_healthy_worker_sends_nothing_of_it(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(parts.backend)
    monkeypatch.setattr(claims, "add_counts", pytest.fail)
    await Links(claims, HOLDER, lambda: {"worker_reconnects|listener": 0}).tell()
