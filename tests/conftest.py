"""Servers to test against, and what is checked after every test that used one.

`redis_url` runs a test once per backend, with an empty database; everything else is built on it. A test that wants to
kill or stop the server takes `redis_server`, which is its own.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator

import pytest
import redis
from hypothesis import settings

from tests.support.backends import BACKENDS, BY_NAME, Backend, Capability
from tests.support.cli import Cli
from tests.support.key_leaks import keys_without_end
from tests.support.redis_server import MISSING, RedisServer, find_program

# Examples are not timed: on a shared two-core machine a deadline finds the neighbours, not a bug. In CI the examples
# are the same every time, so that a red build is red for a change.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell ignores Ctrl-C for what it runs in the background, and all that is started here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop a test for the backends that lack what it needs: it says nothing there, so it is no skip either."""
    kept = [item for item in items if _has_what_it_needs(item)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if not _has_what_it_needs(item)])
        items[:] = kept


def _has_what_it_needs(item: pytest.Item) -> bool:
    needed = {Capability(name) for marker in item.iter_markers("needs") for name in marker.args}
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get("redis_url") if callspec is not None else None
    return name is None or needed <= BY_NAME[name].has


@pytest.fixture(scope="session")
def real_redis() -> Iterator[str]:
    """URL of a redis-server that all tests of this process share."""
    _require_redis_server()
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def embedded_redis() -> Iterator[str]:
    """URL of the embedded default, over TCP like any server, so that the same tests run against it."""
    from broker.embedded import EmbeddedServer

    server = EmbeddedServer(host="127.0.0.1", port=0)
    try:
        yield server.start()
    finally:
        server.stop()


SERVER_FIXTURES = {"fakeredis": "embedded_redis", "redis": "real_redis"}


@pytest.fixture(params=[backend.name for backend in BACKENDS])
def redis_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database: every test that takes it runs once per backend."""
    url: str = request.getfixturevalue(SERVER_FIXTURES[request.param])
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def backend(request: pytest.FixtureRequest, redis_url: str) -> Backend:
    """The row of the capability table that `redis_url` stands for."""
    return BY_NAME[request.node.callspec.params["redis_url"]]


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A real server for one test, which may kill, pause and restart it. It keeps what it acknowledged."""
    _require_redis_server()
    with RedisServer(durable=True) as server:
        yield server


@pytest.fixture(autouse=True)
def no_key_without_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that used `redis_url` every key has a TTL, or a reason in tests/support/key_leaks.py."""
    if "redis_url" not in request.fixturenames:
        yield
        return
    url: str = request.getfixturevalue("redis_url")
    yield
    with redis.Redis.from_url(url) as client:
        leaked = keys_without_end(client)
    if leaked:
        pytest.fail(
            f"keys without TTL and without a reason in tests/support/key_leaks.py: {', '.join(leaked)}", pytrace=False
        )


@pytest.fixture(autouse=True)
def loggers_as_imported() -> None:
    """`broker serve` in this process takes their log to stderr, import-linter's set-up disables all that there are."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in ("broker", "uvicorn"):
            logger.handlers, logger.propagate, logger.disabled = [], True, False
            logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def nothing_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in this process would hide from the garbage collector what a test leaves behind."""
    monkeypatch.setattr(gc, "freeze", lambda: None)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process."""
    return Cli(monkeypatch, capsys)


def _require_redis_server() -> None:
    """Where there is no redis-server: red in CI, elsewhere a skip that says what is not tested."""
    if find_program() is not None:
        return
    message = f"NOT TESTED AGAINST REAL REDIS: {MISSING}; `sh tests/run.sh` says how to get one"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
