"""The test support keeps its promises: a server can be crashed, hung and brought back, and a wait explains itself."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.key_leaks import keys_without_end
from tests.support.redis_server import RedisServer
from tests.support.tree import ROOT
from tests.support.wait import WaitTimeout, wait_until, wait_until_sync

NEVER_AGAIN = Retry(NoBackoff(), 0)
"""The client's own retries would hide that the server is gone."""


def test_a_killed_server_comes_back_on_its_port_with_what_it_acknowledged(redis_server: RedisServer) -> None:
    url, first_pid = redis_server.url, redis_server.pid
    with redis.Redis.from_url(url) as client:
        client.set("answered", "yes")
        redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("answered")
        redis_server.restart()
        assert redis_server.url == url
        assert redis_server.pid != first_pid
        assert client.get("answered") == b"yes"


def test_a_paused_server_keeps_connections_and_answers_nothing(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url, socket_timeout=0.2, retry=NEVER_AGAIN) as client:
        client.ping()
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.resume()
        assert wait_until_sync(client.ping, "an answer after SIGCONT")


def test_a_stopped_server_is_gone_even_when_it_hung(redis_server: RedisServer) -> None:
    redis_server.pause()
    redis_server.stop()
    with redis.Redis(port=redis_server.port, retry=NEVER_AGAIN) as client, pytest.raises(redis.ConnectionError):
        client.ping()


@pytest.mark.usefixtures("redis_server")  # for its skip where no program is installed
def test_a_server_does_not_outlive_a_test_process_that_was_killed() -> None:
    """pytest-timeout, a CI that gives up, kill -9: nobody is left to stop the server, so its guard does."""
    start = "from tests.support.redis_server import RedisServer; print(RedisServer().start(), flush=True)"
    code = f"{start}; import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with redis.Redis.from_url(killed.stdout.strip(), retry=NEVER_AGAIN) as client:
        wait_until_sync(lambda: not _answers(client), "the end of the orphaned server")


def _answers(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


async def test_a_wait_returns_what_came_true_and_names_what_did_not() -> None:
    answers = iter([0, 0, 7])

    async def later() -> int:
        return next(answers)

    assert await wait_until(later, "seven") == 7
    with pytest.raises(WaitTimeout, match=r"waited 0\.01 s for: the moon \(last value: 0\)"):
        await wait_until(lambda: 0, "the moon", timeout=0.01)
    with pytest.raises(WaitTimeout, match="the sun"):
        wait_until_sync(lambda: False, "the sun", timeout=0)


def test_a_key_without_end_is_found(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("cb:{r}:run", "leaked")
        client.set("cb:{r}:gates", "ends", ex=60)
        client.zadd("cb:open", {"r|c": 1})
        assert keys_without_end(client) == ["cb:{r}:run"]
        client.delete("cb:{r}:run")
