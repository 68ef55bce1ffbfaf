"""The embedded server: what it repairs in fakeredis 2.41, each beside the fault as fakeredis alone shows it.

A test named `test_fakeredis_...` pins such a fault. When it fails on a newer fakeredis, the repair of the test above
it can go; when all have failed, so can the TCP front in `broker/embedded.py`.
"""

from __future__ import annotations

import asyncio
import errno
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from types import ModuleType
from typing import Any

import hiredis
import pytest
from fakeredis import TcpFakeServer
from redis.asyncio import Redis

from broker.embedded import EmbeddedServer, parse_embedded_url
from broker.errors import Conflict, InvalidInput, MissingExtra
from tests.support.wait import wait_until_sync

PATIENCE_S = 20.0
"""For what must come. Nothing waits this long unless the test is about to fail."""


class Wire:
    """A client without a library: what is on the wire, and when it ends."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._reader = hiredis.Reader(encoding="utf-8", notEnoughData=self)

    def send(self, *commands: str) -> None:
        """Send commands, words separated by blanks, in one write."""
        self.socket.sendall(b"".join(_packed(*command.split()) for command in commands))

    def read(self) -> Any:
        """The next reply; EOFError where the server has closed the connection."""
        while (reply := self._reader.gets()) is self:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._reader.feed(data)
        return reply

    def call(self, command: str) -> Any:
        self.send(command)
        return self.read()

    def script(self, source: str, *keys: str) -> Any:
        self.socket.sendall(_packed("EVAL", source, str(len(keys)), *keys))
        return self.read()

    def is_silent(self) -> bool:
        """Nothing arrives, no end either, for a tenth of a second."""
        return not select.select([self.socket], [], [], 0.1)[0]

    def close(self) -> None:
        self.socket.close()


def _packed(*words: str) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub names a tuple of one word
    return packed


class Wires:
    """Connections to one server, all closed at the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._open: list[Wire] = []

    def __call__(self) -> Wire:
        self._open.append(Wire(self.port))
        return self._open[-1]

    def close(self) -> None:
        for wire in self._open:
            wire.close()


def _port(url: str) -> int:
    return int(url.removesuffix("/0").rsplit(":", 1)[1])


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def connect(server: EmbeddedServer) -> Iterator[Wires]:
    """Connections to the embedded server."""
    wires = Wires(_port(server.url))
    yield wires
    wires.close()


@pytest.fixture
def plain() -> Iterator[TcpFakeServer]:
    """fakeredis's own server, unrepaired."""
    running = TcpFakeServer(("127.0.0.1", 0))
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join(PATIENCE_S)


@pytest.fixture
def connect_plain(plain: TcpFakeServer) -> Iterator[Wires]:
    """Connections to fakeredis's own server."""
    wires = Wires(plain.server_address[1])
    yield wires
    wires.close()


# --- urls, starting, stopping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("embedded://", ("127.0.0.1", 0)),
        ("embedded://127.0.0.1", ("127.0.0.1", 0)),
        ("embedded://127.0.0.1:7777", ("127.0.0.1", 7777)),
        ("embedded://localhost:7777", ("127.0.0.1", 7777)),
        ("embedded://:7777", ("127.0.0.1", 7777)),
        ("embedded://[::1]:7777", ("::1", 7777)),
    ],
)
def test_the_urls_that_are_understood(url: str, expected: tuple[str, int]) -> None:
    assert parse_embedded_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "embedded",
        "embedded:",
        "redis://127.0.0.1:6379/0",
        "embedded://0.0.0.0:7777",
        "embedded://192.0.2.1",
        "embedded://example.org:7777",
        "embedded://127.0.0.1:65536",
        "embedded://127.0.0.1:http",
        "embedded://127.0.0.1:7777/0",
        "embedded://127.0.0.1?db=1",
        "embedded://user:secret@127.0.0.1:7777",
        "embedded://[::1",
    ],
)
def test_any_other_url_is_refused_with_what_value_and_allowed(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"embedded server: (url|host) is '.*'; allowed: "):
        parse_embedded_url(url)


def test_only_loopback_and_real_ports_are_served() -> None:
    with pytest.raises(InvalidInput, match="loopback"):
        EmbeddedServer("0.0.0.0")
    with pytest.raises(InvalidInput, match="65535"):
        EmbeddedServer(port=65536)


def test_start_gives_a_url_and_stop_ends_everything() -> None:
    before = set(threading.enumerate())  # other tests of this process may run a server of their own
    server = EmbeddedServer()
    url = server.start()
    assert server.start() == server.url == url
    wire = Wire(_port(url))
    assert wire.call("PING") == "PONG"
    server.stop()
    server.stop()
    with pytest.raises(EOFError):
        wire.read()
    wire.close()
    with pytest.raises(ConnectionRefusedError):
        Wire(_port(url))
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "broker-embedded"]
    with pytest.raises(Conflict, match="not running"):
        _ = server.url


def test_stop_ends_clients_that_block_or_do_not_read() -> None:
    with EmbeddedServer() as server:
        blocked, stuck = Wire(_port(server.url)), Wire(_port(server.url))
        blocked.send("PING", "BLPOP never 0")
        assert blocked.read() == "PONG"
        assert stuck.call(f"SET big {'x' * 8_000_000}") == "OK"
        stuck.send("GET big")
    with pytest.raises(EOFError):
        blocked.read()
    with pytest.raises(EOFError):
        stuck.read()
    blocked.close()
    stuck.close()


def test_nothing_survives_a_stop() -> None:
    server = EmbeddedServer()
    for _ in range(2):
        wire = Wire(_port(server.start()))
        assert wire.call("GET kept") is None
        assert wire.call("SET kept 1") == "OK"
        wire.close()
        server.stop()


def test_a_port_in_use_is_a_clear_error(server: EmbeddedServer) -> None:
    port = _port(server.url)
    with pytest.raises(Conflict, match=rf"127\.0\.0\.1:{port}: the port is in use; choose another one, or 0"):
        EmbeddedServer(port=port).start()


def test_an_address_it_may_not_listen_on_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_server", _not_permitted)
    with pytest.raises(InvalidInput, match=r"cannot listen on 127\.0\.0\.1:1: Permission denied"):
        EmbeddedServer(port=1).start()


def _not_permitted(*_: Any, **__: Any) -> socket.socket:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_failure_to_start_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "run", _no_descriptor_left)
    server = EmbeddedServer()
    with pytest.raises(OSError, match="Too many open files"):
        server.start()
    server.stop()


def _no_descriptor_left(serve: Coroutine[Any, Any, None]) -> None:
    serve.close()
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("installed", [None, ModuleType("fakeredis.aioredis")], ids=["absent", "other"])
def test_without_fakeredis_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, installed: ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "fakeredis.aioredis", installed)
    with pytest.raises(MissingExtra, match=r'pip install "cancellation-broker\[embedded\]"'):
        EmbeddedServer().start()


def test_without_lua_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without_lua = ModuleType("fakeredis.aioredis")
    without_lua.__dict__["AsyncFakeSocket"] = object
    monkeypatch.setitem(sys.modules, "fakeredis.aioredis", without_lua)
    with pytest.raises(MissingExtra, match=r'pip install "cancellation-broker\[embedded\]"'):
        EmbeddedServer().start()


# --- daemon threads ---------------------------------------------------------------------------------------------------

PROGRAM = """
import socket, sys, threading
from broker.embedded import EmbeddedServer
url = EmbeddedServer().start()
client = socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0])))
client.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n")
client.recv(7)
print("connected", flush=True)
if sys.argv[1] == "wait":
    threading.Event().wait()
"""


@pytest.mark.parametrize("how", ["return", "wait"])
def test_a_connected_client_does_not_hold_up_the_end(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "connected\n"
        if how == "wait":
            program.send_signal(signal.SIGINT)  # Ctrl-C
        try:
            program.wait(PATIENCE_S)
        finally:
            program.kill()
    assert program.returncode == (0 if how == "return" else -signal.SIGINT)


def test_fakeredis_has_a_thread_per_client_that_holds_up_the_end(connect_plain: Wires) -> None:
    before = set(threading.enumerate())
    assert connect_plain().call("PING") == "PONG"
    (handler,) = set(threading.enumerate()) - before
    assert not handler.daemon


# --- large replies to slow readers ------------------------------------------------------------------------------------

LARGE = 8_000_000
"""Bytes of one reply: more than the kernel buffers for both ends."""


def test_t46_a_slow_reader_gets_all_of_a_large_reply(connect: Wires) -> None:
    slow, other = connect(), connect()
    assert slow.call(f"SET big {'x' * LARGE}") == "OK"
    slow.send(*["GET big"] * 4, "PING")
    assert other.call("PING") == "PONG"  # it is nobody else's problem
    assert [len(slow.read()) for _ in range(4)] == [LARGE] * 4
    assert slow.read() == "PONG"


def test_fakeredis_cuts_off_a_slow_reader(plain: TcpFakeServer, connect_plain: Wires) -> None:
    slow = connect_plain()
    assert slow.call(f"SET big {'x' * LARGE}") == "OK"
    slow.send("GET big")
    wait_until_sync(lambda: not plain.clients, "fakeredis to have dropped its client")
    with pytest.raises(EOFError):
        slow.read()


# --- CLIENT KILL ------------------------------------------------------------------------------------------------------


def test_client_kill_type_pubsub_closes_the_subscribers(connect: Wires) -> None:
    admin, normal, subscriber = connect(), connect(), connect()
    assert subscriber.call("SUBSCRIBE news") == ["subscribe", "news", 1]
    assert normal.call("PING") == "PONG"
    assert admin.call("CLIENT KILL TYPE pubsub") == 1
    with pytest.raises(EOFError):
        subscriber.read()
    assert admin.call("PUBLISH news x") == 0
    assert normal.call("PING") == "PONG"


def test_client_kill_id_closes_one_even_if_it_blocks(connect: Wires) -> None:
    admin, victim = connect(), connect()
    number = victim.call("CLIENT ID")
    victim.send("BLPOP never 0")
    assert admin.call(f"CLIENT KILL ID {number}") == 1
    with pytest.raises(EOFError):
        victim.read()
    assert admin.call(f"CLIENT KILL ID {number}") == 0


def test_client_kill_skipme(connect: Wires) -> None:
    admin, victim = connect(), connect()
    assert victim.call("PING") == "PONG"
    assert admin.call("CLIENT KILL TYPE normal SKIPME yes") == 1
    with pytest.raises(EOFError):
        victim.read()
    assert admin.call("CLIENT KILL TYPE normal SKIPME no") == 1
    with pytest.raises(EOFError):
        admin.read()


def test_client_kill_by_address(connect: Wires) -> None:
    admin, victim = connect(), connect()
    host, port = victim.socket.getsockname()
    assert victim.call("PING") == "PONG"
    assert admin.call(f"CLIENT KILL {host}:{port}") == "OK"
    with pytest.raises(EOFError):
        victim.read()


def test_fakeredis_leaves_a_killed_client_waiting(connect_plain: Wires) -> None:
    admin, subscriber = connect_plain(), connect_plain()
    assert subscriber.call("SUBSCRIBE news") == ["subscribe", "news", 1]
    assert admin.call("CLIENT KILL TYPE pubsub") == 1
    assert admin.call("PUBLISH news x") == 0
    assert subscriber.is_silent()


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_reply_leaves_the_connection_open(connect: Wires) -> None:
    wire = connect()
    wire.send("SET word x", "INCR word", f"EVALSHA {'0' * 40} 0", "LPUSH word y", "NOSUCH", "PING")
    replies = [wire.read() for _ in range(6)]
    assert [type(reply) for reply in replies] == [str, *[hiredis.ReplyError] * 4, str]
    assert [str(reply).split()[0] for reply in replies] == ["OK", "ERR", "NOSCRIPT", "WRONGTYPE", "ERR", "PONG"]


def test_the_error_of_a_script_is_one_line(connect: Wires) -> None:
    wire = connect()
    refused = wire.script("error('one\\ntwo')")
    assert isinstance(refused, hiredis.ReplyError)
    assert "one two" in str(refused)
    assert wire.call("PING") == "PONG"


def test_arguments_that_fakeredis_does_not_foresee_are_an_error(connect: Wires) -> None:
    wire = connect()
    assert "IndexError" in str(wire.call("CLIENT LIST TYPE pubsub"))
    assert wire.call("PING") == "PONG"


def test_what_is_not_the_protocol_is_answered_and_closed(connect: Wires) -> None:
    wire = connect()
    wire.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert "Protocol error" in str(wire.read())
    with pytest.raises(EOFError):
        wire.read()


def test_a_script_that_sets_a_global_spoils_nothing_else(connect: Wires) -> None:
    wire = connect()
    assert "not enough" not in str(wire.call("EVAL x 1"))  # refused before there is any Lua
    assert "global" in str(wire.script("leaked = 1; return 1"))
    assert wire.script("return 2") == 2


# --- pushes, blocking commands ----------------------------------------------------------------------------------------


def test_a_push_does_not_wait_for_a_poll(connect: Wires) -> None:
    publisher, subscriber = connect(), connect()
    subscriber.call("SUBSCRIBE news")
    took = []
    for number in range(50):
        begin = time.perf_counter()
        assert publisher.call(f"PUBLISH news {number}") == 1
        assert subscriber.read() == ["message", "news", str(number)]
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.005  # seconds; the best of many, so that a busy machine does not decide


def test_small_replies_in_a_row_are_not_held_back(server: EmbeddedServer, connect: Wires) -> None:
    assert connect().call("PING") == "PONG"
    assert server._running is not None
    (client,) = server._running._clients
    # Nagle's algorithm cost 40 ms for the second of two, measured; on the wire that depends on the kernel's mood.
    accepted = client._transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_fakeredis_polls_for_pushes() -> None:
    from fakeredis._clients import _tcp_server

    assert _tcp_server._POLL_INTERVAL == 0.01  # seconds


def test_an_ended_subscriber_leaves_no_channels_behind(connect: Wires) -> None:
    admin, subscriber = connect(), connect()
    for command in ("SUBSCRIBE a", "PSUBSCRIBE b*", "SSUBSCRIBE c"):
        subscriber.call(command)
    subscriber.close()
    wait_until_sync(lambda: admin.call("PUBSUB CHANNELS") == [], "the channel to be gone")
    assert admin.call("PUBSUB NUMPAT") == 0
    assert admin.call("PUBSUB SHARDCHANNELS") == []
    assert admin.call("SPUBLISH c x") == 0


def test_fakeredis_keeps_the_channels_of_ended_subscribers(plain: TcpFakeServer, connect_plain: Wires) -> None:
    admin, subscriber = connect_plain(), connect_plain()
    subscriber.call("SUBSCRIBE a")
    subscriber.close()
    wait_until_sync(lambda: len(plain.clients) == 1, "the subscriber to be gone")
    assert admin.call("PUBLISH a x") == 0
    assert admin.call("PUBSUB CHANNELS") == ["a"]


def test_commands_behind_a_blocking_one_wait_for_it(connect: Wires) -> None:
    wire, other = connect(), connect()
    wire.send("PING", "BLPOP list 0", "GET later")
    assert wire.read() == "PONG"
    assert other.call("SET later 1") == "OK"
    assert other.call("RPUSH list x") == 1
    assert wire.read() == ["list", "x"]
    assert wire.read() == "1"


def _with_group(wire: Wire) -> Wire:
    assert wire.call("XGROUP CREATE stream group 0 MKSTREAM") == "OK"
    return wire


def test_xreadgroup_waits_for_an_entry(connect: Wires) -> None:
    reader, writer = _with_group(connect()), connect()
    assert reader.call("XREADGROUP GROUP group me COUNT 10 BLOCK 1 STREAMS stream >") is None
    reader.send("XREADGROUP GROUP group me COUNT 10 BLOCK 60000 STREAMS stream >")
    assert writer.call("SET elsewhere 1") == "OK"  # a change of another key wakes fakeredis's waiters
    assert reader.is_silent()
    entry = writer.call("XADD stream * a 1")
    assert reader.read() == [["stream", [[entry, ["a", "1"]]]]]


def test_xreadgroup_without_count_returns_what_is_there(connect: Wires) -> None:
    reader = _with_group(connect())
    entry = reader.call("XADD stream * a 1")
    assert reader.call("XREADGROUP GROUP group me BLOCK 60000 STREAMS stream >") == [["stream", [[entry, ["a", "1"]]]]]


def test_a_dead_reader_takes_no_entry(connect: Wires) -> None:
    admin, dead = _with_group(connect()), connect()
    dead.send("PING", "XREADGROUP GROUP group dead COUNT 1 BLOCK 60000 STREAMS stream >")
    assert dead.read() == "PONG"
    dead.close()
    wait_until_sync(lambda: len(admin.call("CLIENT LIST").splitlines()) == 1, "the reader to be gone")
    entry = admin.call("XADD stream * a 1")
    assert admin.call("XREADGROUP GROUP group me COUNT 1 STREAMS stream >") == [["stream", [[entry, ["a", "1"]]]]]


def test_fakeredis_gives_entries_to_a_dead_reader(connect_plain: Wires) -> None:
    admin, dead = _with_group(connect_plain()), connect_plain()
    dead.send("XREADGROUP GROUP group dead BLOCK 60000 STREAMS stream >")
    wait_until_sync(lambda: admin.call("XINFO CONSUMERS stream group"), "the reader to wait")
    dead.close()
    admin.call("XADD stream * a 1")
    wait_until_sync(lambda: admin.call("XPENDING stream group")[0] == 1, "the entry to be taken")


# --- what the broker builds on ----------------------------------------------------------------------------------------

VERBS = """
local t = redis.call('TIME')
local now_ms = t[1] * 1000
redis.call('HSET', KEYS[1], 'at', string.format('%.0f', t[1] * 1000000 + t[2]))
local first = redis.call('PEXPIREAT', KEYS[1], now_ms + 60000, 'NX')
local again = redis.call('PEXPIREAT', KEYS[1], now_ms + 90000, 'NX')
local entry = redis.call('XADD', KEYS[2], 'MAXLEN', '~', '100', '*', 'a', '1')
return {first, again, redis.call('PUBLISH', ARGV[1], 'told'), entry}
"""


@pytest.mark.parametrize("protocol", [2, 3])
async def test_the_verbs_of_the_broker_work_from_redis_py(server: EmbeddedServer, protocol: int) -> None:
    async with Redis.from_url(server.url, protocol=protocol) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe("news")
        assert (await pubsub.get_message(timeout=PATIENCE_S))["type"] == "subscribe"
        sha = await redis.script_load(VERBS)
        first, again, receivers, entry = await redis.evalsha(sha, 2, "h", "s", "news")
        assert (first, again, receivers) == (1, 0, 1)
        assert (await pubsub.get_message(timeout=PATIENCE_S))["data"] == b"told"
        assert [number for number, _ in await redis.xrange("s") or ()] == [entry]
        assert await redis.set("k", 1, nx=True, get=True) is None
        await redis.zadd("z", {"a": 1, "b": 2, "c": 3})
        assert await redis.zrangebyscore("z", "(1", 3, start=0, num=1) == [b"b"]
        await redis.hset("many", mapping={f"f{number}": number for number in range(1000)})
        assert len([field async for field in redis.hscan_iter("many", count=100)]) == 1000


async def test_one_connection_listens_to_thousands_of_channels(server: EmbeddedServer) -> None:
    names = [f"cancel:{number}" for number in range(3000)]
    async with Redis.from_url(server.url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(*names)
        for _ in names:
            assert (await pubsub.get_message(timeout=PATIENCE_S))["type"] == "subscribe"
        async with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.publish(name, "x")
            assert await pipeline.execute() == [1] * len(names)
        heard = [(await pubsub.get_message(timeout=PATIENCE_S))["channel"].decode() for _ in names]
    assert heard == names


async def test_a_script_is_atomic(server: EmbeddedServer) -> None:
    both = "for _ = 1, 100 do redis.call('INCR', KEYS[1]); redis.call('INCR', KEYS[2]) end"
    async with Redis.from_url(server.url) as redis:
        await redis.mset({"x": 0, "y": 0})
        writers = asyncio.gather(*(redis.eval(both, 2, "x", "y") for _ in range(20)))
        while not writers.done():
            x, y = await redis.mget("x", "y")
            assert x == y
            assert int(x or 0) % 100 == 0
        await writers
        assert await redis.mget("x", "y") == [b"2000", b"2000"]
