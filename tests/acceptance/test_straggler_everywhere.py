"""One worker of the demo's fleet is stopped: top, report and metrics name the same, with the same cause; it alerts."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis

from broker.cli.demo.fleet import Fleet, Member
from tests.support.alerts import Scrape, Story, check_stories, need_promtool, parse_scrape
from tests.support.cli import Cli
from tests.support.http import Server, serving
from tests.support.points import PATIENCE_S
from tests.support.wait import wait_until

RUN = "demo"
OF_EACH = 2


@pytest.fixture
def server(real_redis: str) -> Iterator[Server]:
    with Redis.from_url(real_redis) as client:
        client.flushall()
    with serving(real_redis) as started:
        yield started


@pytest.fixture
async def fleet(real_redis: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Three workers, each inside directories that wait for a subdirectory which nobody takes."""
    hello = {"redis_url": real_redis, "run_id": RUN, "path": str(tmp_path), "skip": []}
    async with Fleet(3, hello) as started:
        for member in started.members:
            for n in range(OF_EACH):
                name = f"{member.name}-{n}"
                (tmp_path / name / "below").mkdir(parents=True)
                started.send(member, "run", id=name, path=name, parent=None)
        waiting = 0
        while waiting < 3 * OF_EACH:
            waiting += (await started.events.get()).kind == "waiting"
        yield started


def scrape(server: Server) -> Scrape:
    return parse_scrape(server.client.get("/metrics").text)


def stragglers(scraped: Scrape) -> dict[str, float]:
    return {dict(labels)["cause"]: number for labels, number in scraped["broker_stragglers"].items() if number}


def silence(member: Member, real_redis: str) -> None:
    """Stopped, and its heartbeat has expired: here the key is taken away instead of waiting 15 s for its end."""
    member.process.send_signal(signal.SIGSTOP)
    with Redis.from_url(real_redis) as client:
        assert client.delete(f"cb:worker:{member.worker_id}") == 1


async def test_a_stopped_worker_is_named_the_same_everywhere_and_wakes_someone(
    server: Server, fleet: Fleet, real_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    cli = Cli(monkeypatch, capsys)
    monkeypatch.setenv("BROKER_SERVER", server.url)
    stopped = fleet.members[1]
    before = scrape(server)
    silence(stopped, real_redis)
    server.client.post(f"/api/v1/workflows/{RUN}/cancel-tree?deadline_ms=1").raise_for_status()
    try:
        during = await until_stragglers(server, {"worker_lost": OF_EACH})
        assert_all_name_the_same(cli, during, stopped)
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    after = await until_stragglers(server, {})

    need_promtool()
    stories = [
        Story("before anything was cancelled", [(before, 10)]),
        Story("overdue for less than five minutes", [(before, 2), (during, 4)]),
        Story("overdue for longer", [(before, 2), (during, 6)], fire={"BrokerCancelOverdue"}),
        Story("and settled", [(before, 2), (during, 6), (after, 1)]),
        Story("nobody answers a scrape", [(before, 2), ({}, 2)], fire={"BrokerNoCanary"}),
    ]
    check_stories(stories, tmp_path)


async def until_stragglers(server: Server, expected: dict[str, int]) -> Scrape:
    """What is scraped once these are the stragglers."""
    found: list[Scrape] = []

    def is_so() -> bool:
        found.append(scrape(server))
        return stragglers(found[-1]) == expected

    await wait_until(is_so, f"the stragglers to be {expected}", PATIENCE_S)
    return found[-1]


def assert_all_name_the_same(cli: Cli, scraped: Scrape, stopped: Member) -> None:
    """The report names the executions and their worker; top names that worker, and how many for which cause."""
    names = {f"{stopped.name}-{n}" for n in range(OF_EACH)}
    report = json.loads(cli("run", "report", RUN, "--json")[1])
    assert {one["execution_id"] for one in report["still_running"]} == names
    assert {one["worker_id"] for one in report["still_running"]} == {stopped.worker_id}
    assert report["overdue"]
    causes = Counter(one["cause"] for one in report["still_running"])
    top = json.loads(cli("top", "--json")[1])
    assert top["causes"] == top["cancellations"][0]["causes"] == dict(causes) == stragglers(scraped)
    assert {one["worker_id"] for one in top["workers"] if not one["alive"]} == {stopped.worker_id}
    assert top["overdue"] == only(scraped, "broker_operations_overdue") == 1
    assert top["outstanding"] == only(scraped, "broker_executions_unsettled") == len(names)
    for command in (("run", "report", RUN), ("top", "--once")):
        code, said, error = cli(*command)
        assert (code, error) == (0, "")
        assert "worker_lost" in said
        assert stopped.worker_id[:20] in said


def only(scraped: Scrape, name: str) -> float:
    (value,) = scraped[name].values()
    return value
