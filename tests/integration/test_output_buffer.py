"""A worker that does not read is cut off by Redis, and gets every cancel when it reads again."""

from __future__ import annotations

import asyncio
import signal
import sys

from redis.asyncio import Redis

import broker
from tests.support.redis_server import RedisServer
from tests.support.tree import ROOT
from tests.support.wait import wait_until

RUN = "run-1"
HELD = 200
UNREAD = 20_000
PATIENCE_S = 60.0


async def test_t06_a_stopped_worker_that_was_cut_off_gets_every_cancel(redis_server: RedisServer) -> None:
    lines = "".join(f"x-{number} \n" for number in range(HELD))
    async with (
        Redis.from_url(redis_server.url) as client,
        broker.connect(redis_server.url, sweep=False, timeout=PATIENCE_S) as control,
    ):
        await client.config_set("client-output-buffer-limit", "pubsub 64kb 64kb 1")
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.fleet_worker", redis_server.url, RUN,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(lines.encode())
            worker.stdin.close()
            async with asyncio.timeout(PATIENCE_S):
                assert await worker.stdout.readline() == f"holding {HELD}\n".encode()
            listeners = await _listeners(client)
            assert len(listeners) == 1
            worker.send_signal(signal.SIGSTOP)
            await _publish(client, UNREAD)
            await wait_until(lambda: _is_cut_off(client, listeners), "the stopped worker to be cut off")
            report = await control.cancel_run(RUN)
            assert report.totals.still_running == HELD
            worker.send_signal(signal.SIGCONT)
            async with asyncio.timeout(PATIENCE_S):
                assert await worker.stdout.readline() == f"stopped {HELD}\n".encode()
        finally:
            worker.send_signal(signal.SIGCONT)
            if worker.returncode is None:
                worker.kill()
            await worker.wait()
        report = await control.report(RUN)
        assert (report.state, report.dispositions) == ("settled", {"stopped": HELD})


async def _listeners(client: Redis) -> set[str]:
    """The connections of the worker's listener, by id; our control plane has no subscription to its channels."""
    return {str(one["id"]) for one in await client.client_list() if int(one["sub"]) > HELD}


async def _is_cut_off(client: Redis, listeners: set[str]) -> bool:
    return not listeners & {str(one["id"]) for one in await client.client_list()}


async def _publish(client: Redis, count: int) -> None:
    """Hints that nobody asked for, on a channel of the worker: it would drop each of them."""
    channel, payload = f"cb:{{{RUN}}}:cancel:x-0", b'{"v":1,"type":"unknown","filler":"' + b"x" * 1000 + b'"}'
    for _ in range(count // 1000):
        async with client.pipeline(transaction=False) as pipe:
            for _ in range(1000):
                pipe.publish(channel, payload)
            await pipe.execute()
