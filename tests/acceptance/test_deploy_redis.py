"""Redis as deploy/ starts it: its redis.conf, and a user for each role, whose rights suffice and are no wider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

import broker
from broker.store.checks import check_server
from broker.store.claims import Holder
from tests.support.configured_redis import ConfiguredRedis
from tests.support.parts import open_parts
from tests.support.points import PATIENCE_S

RUN_KEY = "cb:{run-1}:"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, real_redis: str) -> Iterator[ConfiguredRedis]:
    """`real_redis` says where there is no program."""
    assert real_redis
    with ConfiguredRedis(tmp_path_factory.mktemp("deployed")) as server:
        yield server


def test_every_choice_of_the_file_is_taken(deployed: ConfiguredRedis) -> None:
    with redis.Redis.from_url(deployed.url_of("broker"), decode_responses=True) as client:
        found = client.config_get()
    assert found["maxmemory-policy"] == "noeviction"
    assert (found["appendonly"], found["appendfsync"]) == ("yes", "everysec")
    assert f"pubsub {256 << 20} {64 << 20} 120" in found["client-output-buffer-limit"]
    assert found["protected-mode"] == "yes"


async def test_doctor_finds_nothing_to_mend(deployed: ConfiguredRedis) -> None:
    findings = await check_server(deployed.url_of("broker"))
    assert {one.name: one.what for one in findings if one.ok is not True} == {}


async def test_each_role_can_do_its_work(deployed: ConfiguredRedis) -> None:
    """Started and cancelled by users of these roles: register, start, late start, cancel, ack, declare dead, report."""
    async with (
        broker.connect(deployed.url_of("broker")) as control,
        broker.Worker(deployed.url_of("worker"), worker_id="w-1") as worker,
    ):
        await control.register("run-1", [broker.Execution("root")])
        runs = asyncio.Event()

        async def body() -> None:
            async with worker.execution("run-1", "leaf", parent_execution_id="root"):
                runs.set()
                await asyncio.Event().wait()

        running = asyncio.create_task(body())
        await asyncio.wait_for(runs.wait(), PATIENCE_S)
        report = await control.cancel_run("run-1", reason="test", wait=PATIENCE_S)
        assert (report.state, report.still_running) == ("settled", ())
        with pytest.raises(broker.ExecutionCancelled):
            await running
        # Under the closed gate: the worker's own call writes intents, audit, and asks for another look.
        with pytest.raises(broker.ExecutionCancelled):
            async with worker.execution("run-1", "late", parent_execution_id="root"):
                pytest.fail("it started behind the gate")
        assert [one.worker_id for one in (await control.workers()).workers] == ["w-1"]
        assert worker.degraded is None
    async with open_parts(deployed.url_of("worker")) as parts:
        await parts.claims.add_counts(Holder("w-1", 1), 1, {"worker_canary_failures": 1})
    with redis.Redis.from_url(deployed.url_of("publisher")) as publisher:
        assert publisher.xadd("cb:events", {"type": "execution.created"})


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("publisher", ("XADD", f"{RUN_KEY}log", "*", "a", "b")),
        ("publisher", ("XRANGE", "cb:events", "-", "+")),
        ("publisher", ("EVAL", "return 1", "0")),
        ("publisher", ("PUBLISH", f"{RUN_KEY}cancel:leaf", "x")),
        ("observer", ("HSET", f"{RUN_KEY}gates", "*", "x")),
        ("observer", ("EVAL", "return 1", "0")),
        ("observer", ("PUBLISH", f"{RUN_KEY}cancel:leaf", "x")),
        ("observer", ("CONFIG", "SET", "appendonly", "no")),
        ("observer", ("GET", "other:key")),
        ("worker", ("SET", "cb:worker-dead:w-1", "1|x")),
        ("worker", ("XADD", "cb:events", "*", "a", "b")),
        ("worker", ("XTRIM", "cb:events:dead", "MAXLEN", "0")),
        ("worker", ("ZRANGE", "cb:open", "0", "-1")),
        ("worker", ("EVALSHA", "0" * 40, "1", "cb:open")),
        ("worker", ("EVAL", "return 1", "0")),
        ("worker", ("SCRIPT", "FLUSH")),
        ("worker", ("SET", "other:key", "x")),
        ("worker", ("FLUSHALL",)),
        ("worker", ("CONFIG", "GET", "*")),
        ("worker", ("PSUBSCRIBE", "*")),
        ("broker", ("FLUSHALL",)),
        ("broker", ("CONFIG", "SET", "appendonly", "no")),
        ("broker", ("ACL", "SETUSER", "worker", "+@all")),
        ("broker", ("GET", "other:key")),
        ("health", ("GET", "cb:open")),
    ],
    ids=lambda one: one if isinstance(one, str) else "_".join(one[:2]),
)
def test_what_a_role_has_no_right_to_is_refused(deployed: ConfiguredRedis, user: str, command: tuple[str, ...]) -> None:
    url = f"redis://health:none@127.0.0.1:{deployed.port}" if user == "health" else deployed.url_of(user)
    with redis.Redis.from_url(url, protocol=2) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_nobody_without_a_name_gets_in(deployed: ConfiguredRedis) -> None:
    with redis.Redis(port=deployed.port) as client, pytest.raises(redis.AuthenticationError):
        client.get("cb:open")


def test_a_worker_may_write_a_gate_and_that_is_said(deployed: ConfiguredRedis) -> None:
    """Redis cannot keep the two apart: every script has all keys of its run. users.acl says so, and README too."""
    with redis.Redis.from_url(deployed.url_of("worker")) as client:
        assert client.hset(f"{RUN_KEY}gates", "*", "x") in (0, 1)


def test_a_worker_may_ask_for_another_look_at_an_operation(deployed: ConfiguredRedis) -> None:
    """What `Claims` does after a start or an ack that has reopened one: it puts, and reads nothing."""
    with redis.Redis.from_url(deployed.url_of("worker")) as client:
        assert client.zadd("cb:open", {"run-1|c_gone": 0}) == 1
