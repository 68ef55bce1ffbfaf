"""The listener: a subscription that was returned is confirmed, and a dead connection is found and replaced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from broker.errors import BrokerUnavailable, InvalidInput
from broker.store.channel_connection import ChannelConnection, ConnectionSilent, Publish, RawConnection
from broker.store.commands import Commands
from broker.store.subscriptions import ListenerState, Subscriptions
from tests.support.redis_server import RedisServer
from tests.support.wait import block_the_loop, next_turn, spread, wait_until

CONTROL = "cb:worker:w1:control"


class Link:
    """A wire between the listener and the server that a test can cut, or block in either direction."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._accepted: set[asyncio.Task[Any] | None] = set()
        self.sent = self.received = b""
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.up.set()
        self.down.set()

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await wait_until(lambda: not self._accepted, "both ends of every connection to be closed")

    def cut(self) -> None:
        for pipe in self._pipes:
            pipe.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted.add(asyncio.current_task())
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        pipes = (self._pump(reader, server_writer, self.up), self._pump(server_reader, writer, self.down))
        tasks = {asyncio.create_task(pipe) for pipe in pipes}
        self._pipes |= tasks
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pipes -= tasks
        for end in (writer, server_writer):
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()
        self._accepted.discard(asyncio.current_task())

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await is_open.wait()
                if is_open is self.up:
                    self.sent += data
                else:
                    self.received += data
                target.write(data)
                await target.drain()


class Listening:
    """Makes listeners, and closes them at the end of the test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.confirmed: list[frozenset[str]] = []
        self.states: list[ListenerState] = []
        self._made: list[Subscriptions] = []

    def make(self, url: str | None = None, **options: Any) -> Subscriptions:
        options = {"on_confirmed": self.confirmed.append, "on_state": self.states.append} | options
        made = Subscriptions(url or self.url, **options)
        self._made.append(made)
        return made

    async def start(self, url: str | None = None, **options: Any) -> Subscriptions:
        made = self.make(url, **options)
        await made.start()
        return made

    async def close(self) -> None:
        for made in self._made:
            await made.close()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
async def publish(redis_url: str) -> AsyncIterator[Publish]:
    """The way the canary takes in production: the command connection."""
    commands = Commands(redis_url)
    yield commands.publish
    await commands.command("PING")  # answered in order: nothing of the canary is under way any more
    await commands.close()


@pytest.fixture
async def listening(redis_url: str, client: Redis, publish: Publish) -> AsyncIterator[Listening]:
    made = Listening(redis_url)
    yield made
    await made.close()
    await wait_until(has_no_channels(client), "the server to see the end, so that the next test finds nothing")


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[Link]:
    made = Link(int(redis_url.rpartition(":")[2].partition("/")[0]))
    yield made
    await made.close()


@pytest.fixture
async def own_listening(redis_server: RedisServer) -> AsyncIterator[Listening]:
    made = Listening(redis_server.url)
    yield made
    await made.close()


def ignore(_payload: bytes) -> None: ...


def own_tasks() -> list[str]:
    return [name for task in asyncio.all_tasks() if (name := task.get_name()).startswith("subscriptions")]


async def subscribers(client: Redis, channel: str) -> int:
    return int((await client.pubsub_numsub(channel))[0][1])


def has_subscribers(client: Redis, channel: str, count: int) -> Callable[[], Any]:
    async def check() -> bool:
        return await subscribers(client, channel) == count

    return check


async def channels_of(client: Redis) -> set[str]:
    """Channels with a subscriber; fakeredis also lists those whose client went away."""
    names = [name if isinstance(name, str) else name.decode() for name in await client.pubsub_channels()]
    return {name for name in names if await subscribers(client, name)}


def has_no_channels(client: Redis) -> Callable[[], Any]:
    async def check() -> bool:
        return not await channels_of(client)

    return check


async def command(client: Redis, *words: str) -> None:
    await client.execute_command(*words)  # type: ignore[no-untyped-call]


# --- one channel


async def test_subscribe_returns_when_the_server_has_confirmed(listening: Listening, client: Redis) -> None:
    listener = await listening.start()
    got: list[bytes] = []
    await listener.subscribe("a", got.append)
    assert await subscribers(client, "a") == 1
    assert listener.confirmed_count == 1
    assert listening.confirmed == [frozenset({"a"})]
    await client.publish("a", b"\x00\xff")
    await wait_until(lambda: got, "the message")
    assert got == [b"\x00\xff"]


async def test_t01_subscribe_does_not_return_before_the_confirmation(
    listening: Listening, client: Redis, link: Link
) -> None:
    listener = await listening.start(await link.open())
    link.down.clear()
    waiting = asyncio.create_task(listener.subscribe("a", ignore))
    await wait_until(has_subscribers(client, "a", 1), "the server to know the channel")
    assert not waiting.done()
    link.down.set()
    await waiting


async def test_messages_come_in_order_and_none_is_dropped(listening: Listening, client: Redis) -> None:
    listener = await listening.start()
    got: list[bytes] = []
    await listener.subscribe("a", got.append)
    sent = [str(number).encode() for number in range(5_000)]
    async with client.pipeline(transaction=False) as pipe:
        for payload in sent:
            pipe.publish("a", payload)
        await pipe.execute()
    await wait_until(lambda: len(got) >= len(sent), "all messages")
    assert got == sent


@pytest.mark.parametrize("error", [ValueError("bad"), asyncio.CancelledError()], ids=["error", "cancelled"])
async def test_a_handler_that_raises_harms_nobody(listening: Listening, client: Redis, error: BaseException) -> None:
    listener = await listening.start()
    got: list[bytes] = []

    def fail(_payload: bytes) -> None:
        raise error

    await listener.subscribe("bad", fail)
    await listener.subscribe("good", got.append)
    await client.publish("bad", b"1")
    await client.publish("good", b"2")
    await wait_until(lambda: got, "the message of the other channel")
    assert listener.callback_errors == 1
    assert listener.reconnects == 0


async def test_a_callback_that_raises_harms_nobody(listening: Listening) -> None:
    def fail(_news: object) -> None:
        raise ValueError("bad")

    listener = await listening.start(on_confirmed=fail, on_state=fail)
    await listener.subscribe("a", ignore)
    assert listener.callback_errors == 2
    assert listener.state.status == "connected"


async def test_one_handler_per_channel(listening: Listening) -> None:
    listener = await listening.start(control_channel=CONTROL)
    await listener.subscribe("a", ignore)
    for taken in ("a", CONTROL):
        with pytest.raises(ValueError, match="has a handler"):
            await listener.subscribe(taken, ignore)


# --- unsubscribe


async def test_unsubscribe_forgets_the_handler_at_once_and_the_server_soon(
    listening: Listening, client: Redis, link: Link
) -> None:
    listener = await listening.start(await link.open())
    got: list[bytes] = []
    marker: list[bytes] = []
    await listener.subscribe("a", got.append)
    await listener.subscribe("marker", marker.append)
    link.up.clear()
    await listener.unsubscribe("a")
    await listener.unsubscribe("never subscribed")
    assert await client.publish("a", b"late") == 1
    await client.publish("marker", b"1")
    await wait_until(lambda: marker, "what was published after the late message")
    link.up.set()
    await wait_until(has_subscribers(client, "a", 0), "the server to forget the channel", timeout=2.0)
    assert got == []
    assert listener.confirmed_count == 1


async def test_an_old_confirmation_is_not_taken_for_the_new_one(
    listening: Listening, client: Redis, link: Link
) -> None:
    listener = await listening.start(await link.open())
    marker: list[bytes] = []
    old: list[bytes] = []
    new: list[bytes] = []
    await listener.subscribe("marker", marker.append)
    link.down.clear()
    first = asyncio.create_task(listener.subscribe("a", old.append))
    await wait_until(has_subscribers(client, "a", 1), "the server to know the channel")
    link.up.clear()
    await listener.unsubscribe("a")
    with pytest.raises(BrokerUnavailable):
        await first
    second = asyncio.create_task(listener.subscribe("a", new.append))
    await client.publish("marker", b"1")
    link.down.set()
    await wait_until(lambda: marker, "what came after the first confirmation")
    assert not second.done()
    link.up.set()
    await second
    await client.publish("a", b"2")
    await wait_until(lambda: new, "the message for the new handler")
    assert old == []


async def test_subscribe_and_unsubscribe_many_times_ends_right(listening: Listening, client: Redis) -> None:
    listener = await listening.start()
    got: list[tuple[int, bytes]] = []
    for turn in range(200):
        await listener.subscribe("a", lambda payload, turn=turn: got.append((turn, payload)))  # type: ignore[misc]
        if turn % 3 == 0:
            await next_turn()
        await client.publish("a", str(turn).encode())
        await wait_until(lambda turn=turn: len(got) > turn, "the message of this turn")  # type: ignore[misc]
        await listener.unsubscribe("a")
    assert got == [(turn, str(turn).encode()) for turn in range(200)]
    await wait_until(has_subscribers(client, "a", 0), "the server to forget the channel")


async def test_what_was_not_confirmed_in_time_is_not_held(listening: Listening, client: Redis, link: Link) -> None:
    listener = await listening.start(await link.open())
    link.up.clear()
    with pytest.raises(BrokerUnavailable, match=r"did not confirm a within 0\.05 s"):
        await listener.subscribe("a", ignore, timeout_s=0.05)
    link.up.set()
    await listener.subscribe("b", ignore)
    await wait_until(has_subscribers(client, "a", 0), "the server to forget the channel")
    assert listener.confirmed_count == 1
    await listener.subscribe("a", ignore)


async def test_what_was_unsubscribed_before_it_was_sent_is_never_sent(listening: Listening, link: Link) -> None:
    listener = await listening.start(await link.open())
    waiting = asyncio.create_task(listener.subscribe("short-lived", ignore))
    await next_turn()
    await listener.unsubscribe("short-lived")
    with pytest.raises(BrokerUnavailable, match="unsubscribed"):
        await waiting
    await listener.subscribe("b", ignore)
    assert b"short-lived" not in link.sent


async def test_a_cancelled_subscribe_is_not_held(listening: Listening, client: Redis, link: Link) -> None:
    listener = await listening.start(await link.open())
    link.down.clear()
    waiting = asyncio.create_task(listener.subscribe("a", ignore))
    await wait_until(has_subscribers(client, "a", 1), "the server to know the channel")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    link.down.set()
    await wait_until(has_subscribers(client, "a", 0), "the server to forget the channel")
    assert listening.confirmed == []


# --- many channels


async def test_a_thousand_subscribes_at_once_are_a_few_commands(
    listening: Listening, client: Redis, link: Link
) -> None:
    listener = await listening.start(await link.open())
    await asyncio.gather(*(listener.subscribe(f"c{number}", ignore) for number in range(1_000)))
    assert listener.confirmed_count == 1_000
    assert link.sent.lower().count(b"\r\nsubscribe\r\n") == 2
    assert sum(len(channels) for channels in listening.confirmed) == 1_000
    assert len(await channels_of(client)) == 1_000
    for number in range(1_000):
        await listener.unsubscribe(f"c{number}")
    await wait_until(has_no_channels(client), "the server to forget all channels")


async def test_t43_every_subscribe_is_confirmed_while_the_connection_is_killed(
    listening: Listening, client: Redis
) -> None:
    listener = await listening.start()
    received: set[str] = set()
    loop = asyncio.get_running_loop()
    end = loop.time() + 2.0

    async def subscribe(number: int) -> None:
        await spread(number * 0.002)  # the load, not a wait: spread over the two seconds
        await listener.subscribe(f"c{number}", lambda _: received.add(f"c{number}"), timeout_s=20.0)

    async def kill() -> None:
        while loop.time() < end:
            await command(client, "CLIENT", "KILL", "TYPE", "pubsub")
            await spread(0.004)

    await asyncio.gather(kill(), *(subscribe(number) for number in range(1_000)))
    await wait_until(lambda: listener.confirmed_count == 1_000, "all to be confirmed on the last connection")
    assert listener.reconnects > 1
    async with client.pipeline(transaction=False) as pipe:
        for number in range(1_000):
            pipe.publish(f"c{number}", b"1")
        assert await pipe.execute() == [1] * 1_000
    await wait_until(lambda: len(received) == 1_000, "a message for each")


async def test_t03_after_a_reconnect_all_channels_are_confirmed_anew(
    listening: Listening, client: Redis, link: Link
) -> None:
    listener = await listening.start(await link.open(), control_channel=CONTROL)
    channels = frozenset(f"c{number}" for number in range(600)) | {CONTROL}
    await asyncio.gather(*(listener.subscribe(channel, ignore) for channel in channels - {CONTROL}))
    listening.confirmed.clear()
    link.cut()
    await wait_until(lambda: frozenset().union(*listening.confirmed) == channels, "the owner to be told to reconcile")
    await wait_until(lambda: listener.state.status == "connected", "the listener to be connected")
    assert listener.reconnects == 1
    assert [state.status for state in listening.states] == ["connected", "degraded", "connected"]
    assert await channels_of(client) == channels


async def test_a_subscribe_waits_through_a_reconnect(listening: Listening, client: Redis, link: Link) -> None:
    listener = await listening.start(await link.open())
    link.up.clear()
    waiting = asyncio.create_task(listener.subscribe("a", ignore))
    await next_turn()
    link.cut()
    link.up.set()
    await waiting
    assert await subscribers(client, "a") == 1


# --- silence


async def test_t04_the_canary_finds_a_connection_without_messages(listening: Listening, client: Redis) -> None:
    """PING is answered on it, and still no message comes: only the canary can tell."""
    lost: list[bytes] = []

    async def lose(channel: str, payload: bytes) -> int:
        lost.append(payload)
        return 1 if len(lost) < 3 else int(await client.publish(channel, payload))

    options: dict[str, Any] = {"canary_every_s": 0.02, "canary_deadline_s": 0.1, "ping_every_s": 0.02}
    listener = await listening.start(control_channel=CONTROL, publish=lose, **options)
    await wait_until(lambda: len(lost) >= 5, "canaries that return, after two that did not")
    assert listener.reconnects == 2
    assert "canary" in str(next(state.reason for state in listening.states if state.status == "degraded"))


async def test_a_canary_that_cannot_be_published_is_no_reason_to_reconnect(listening: Listening) -> None:
    tried: list[bytes] = []

    async def fail(_channel: str, payload: bytes) -> int:
        tried.append(payload)
        if len(tried) == 1:
            await asyncio.Event().wait()
        raise BrokerUnavailable("down")

    listener = await listening.start(control_channel=CONTROL, publish=fail, canary_every_s=0.01, canary_deadline_s=0.05)
    await wait_until(lambda: len(tried) >= 3, "canaries that were tried")
    assert listener.reconnects == 0


async def test_control_messages_reach_the_owner_and_canaries_do_not(
    listening: Listening, client: Redis, publish: Publish
) -> None:
    got: list[bytes] = []
    listener = await listening.start(
        control_channel=CONTROL, publish=publish, canary_every_s=0.01, on_control=got.append
    )
    await client.publish(CONTROL, b'{"v":1,"type":"canary","nonce":"of another process"}')
    await client.publish(CONTROL, b'{"v":1,"type":"do_you_hold"}')
    await wait_until(lambda: got, "the question")
    assert got == [b'{"v":1,"type":"do_you_hold"}']
    await listener.unsubscribe(CONTROL)  # it is the listener's own
    await client.publish(CONTROL, b"again")
    await wait_until(lambda: len(got) == 2, "the second message")


async def test_t05_an_idle_listener_is_pinged_and_stays(listening: Listening, client: Redis, link: Link) -> None:
    """Also with a socket_timeout in the URL, which would end every read."""
    listener = await listening.start(await link.open() + "?socket_timeout=0.000001", ping_every_s=0.02)
    await wait_until(lambda: link.sent.lower().count(b"ping") >= 3, "pings without a subscription")
    got: list[bytes] = []
    await listener.subscribe("a", got.append)
    pings = link.sent.lower().count(b"ping")
    await wait_until(lambda: link.sent.lower().count(b"ping") >= pings + 3, "pings with a subscription")
    await client.publish("a", b"1")
    await wait_until(lambda: got, "a message")
    assert listener.reconnects == 0


@pytest.mark.parametrize("with_canary", [True, False], ids=["canary", "ping alone"])
async def test_a_loop_that_was_held_up_is_no_dead_connection(
    listening: Listening, link: Link, publish: Publish, with_canary: bool
) -> None:
    """A C call that keeps the interpreter's lock: the deadline is over, and the answer is there and unread."""
    published: list[bytes] = []

    async def count(channel: str, payload: bytes) -> int:
        published.append(payload)
        return await publish(channel, payload)

    def asked() -> int:
        return len(published) if with_canary else link.sent.lower().count(b"ping")

    def answered() -> int:
        return link.received.lower().count(b"canary" if with_canary else b"pong")

    await listening.start(
        await link.open(),
        control_channel=CONTROL,
        publish=count,
        canary_every_s=0.05 if with_canary else 60.0,
        canary_deadline_s=0.3,
        ping_every_s=60.0 if with_canary else 0.05,
    )
    for _ in range(3):
        link.down.clear()
        await wait_until(lambda: asked() > answered(), "something to be due")
        due = asked()
        block_the_loop(0.4)
        link.down.set()
        await wait_until(lambda due=due: answered() > due, "the answer, and the next one")  # type: ignore[misc]
    assert [state.status for state in listening.states] == ["connected"]


@pytest.mark.parametrize("with_canary", [True, False], ids=["canary", "ping alone"])
async def test_t47_a_stopped_server_is_found_and_survived(
    redis_server: RedisServer, own_listening: Listening, with_canary: bool
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        Redis.from_url(redis_server.url, protocol=2) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        commands = Commands(redis_server.url, timeout_s=1.0)
        stack.push_async_callback(commands.close)
        listener = await own_listening.start(
            control_channel=CONTROL if with_canary else None,
            publish=commands.publish if with_canary else None,
            canary_every_s=0.1,
            canary_deadline_s=0.2,
            ping_every_s=0.1,
            connect_timeout_s=0.3,
        )
        got: list[bytes] = []
        await listener.subscribe("a", got.append)
        redis_server.pause()
        paused_at = loop.time()
        await wait_until(lambda: listener.state.status == "degraded", "the silence to be noticed", timeout=5.0)
        assert loop.time() - paused_at < 2.0
        with pytest.raises(BrokerUnavailable):
            await listener.subscribe("b", ignore, timeout_s=0.2)
        own_listening.confirmed.clear()
        redis_server.resume()
        await wait_until(lambda: listener.state.status == "connected", "the listener to recover")
        assert "a" in frozenset().union(*own_listening.confirmed)
        await client.publish("a", b"1")
        await wait_until(lambda: got, "a message after the pause")


# --- the server goes away


async def test_a_restarted_server_gets_all_channels_back(redis_server: RedisServer, own_listening: Listening) -> None:
    listener = await own_listening.start(control_channel=CONTROL)
    got: list[bytes] = []
    await asyncio.gather(*(listener.subscribe(f"c{number}", got.append) for number in range(100)))
    own_listening.confirmed.clear()
    redis_server.kill()
    await wait_until(lambda: listener.state.status == "degraded", "the loss to be noticed")
    assert listener.confirmed_count == 0
    await asyncio.to_thread(redis_server.restart)
    await wait_until(lambda: listener.state.status == "connected", "the listener to be back")
    assert len(frozenset().union(*own_listening.confirmed)) == 101
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        await client.publish("c7", b"1")
        await wait_until(lambda: got, "a message from the new server")


async def test_an_unreachable_server_is_an_error_at_the_start(unused_tcp_port: int) -> None:
    listener = Subscriptions(f"redis://127.0.0.1:{unused_tcp_port}/0", connect_timeout_s=0.2)
    with pytest.raises(BrokerUnavailable, match=r"within 0\.2 s .*127\.0\.0\.1"):
        await listener.start()
    assert own_tasks() == []
    assert listener.state.status == "closed"
    with pytest.raises(BrokerUnavailable, match="not running"):
        await listener.subscribe("a", ignore)


async def test_t47_a_stopped_server_is_an_error_at_the_start(redis_server: RedisServer) -> None:
    redis_server.pause()
    listener = Subscriptions(redis_server.url, connect_timeout_s=0.2)
    with pytest.raises(BrokerUnavailable):
        await listener.start()
    redis_server.resume()


def test_a_url_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(InvalidInput, match="redis://") as refused:
        Subscriptions("http://user:secret@localhost")
    assert "secret" not in str(refused.value)


async def test_a_refused_channel_fails_alone(redis_server: RedisServer, own_listening: Listening) -> None:
    """One error answers a whole SUBSCRIBE; the others of the same command are asked for one by one."""
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        await command(client, "ACL", "SETUSER", "u", "on", ">p", "resetchannels", "&ok*", "+@all")
        url = redis_server.url.replace("redis://", "redis://u:p@")
        listener = await own_listening.start(url, ping_every_s=0.05)
        answers = await asyncio.gather(
            *(listener.subscribe(name, ignore) for name in ("ok1", "no1", "ok2")), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [type(None), BrokerUnavailable, type(None)]
        assert "refuses SUBSCRIBE no1" in str(answers[1])
        assert listener.confirmed_count == 2
        assert listener.reconnects == 0


async def test_a_channel_refused_after_a_reconnect_is_asked_for_until_it_is_allowed(
    redis_server: RedisServer, own_listening: Listening
) -> None:
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        await command(client, "ACL", "SETUSER", "u", "on", ">p", "resetchannels", "&*", "+@all")
        url = redis_server.url.replace("redis://", "redis://u:p@")
        listener = await own_listening.start(url, ping_every_s=0.05)
        await asyncio.gather(listener.subscribe("ok", ignore), listener.subscribe("no", ignore))
        await command(client, "ACL", "SETUSER", "u", "resetchannels", "&ok")  # cuts those that are subscribed
        await wait_until(lambda: "refuses" in (listener.state.reason or ""), "the refusal to be reported")
        assert listener.confirmed_count == 1
        await command(client, "ACL", "SETUSER", "u", "resetchannels", "&*")
        await wait_until(lambda: listener.state.status == "connected", "the channel to be back")
        assert listener.confirmed_count == 2


class FakeRaw:
    """A connection to nobody: it is silent until `lost` is set."""

    def __init__(self, *, is_connected: bool) -> None:
        self.is_connected = is_connected
        self.sent: list[object] = []
        self.lost = asyncio.Event()

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = False) -> None:
        self.is_connected = False

    async def send_command(self, *words: object, check_health: bool) -> None:
        self.sent.append(words)

    async def read_response(self, **_options: object) -> None:
        await self.lost.wait()
        raise OSError("lost")


def connection_over(raw: FakeRaw) -> ChannelConnection:
    return ChannelConnection(
        cast("RawConnection", raw),
        on_message=lambda _channel, _payload: None,
        on_confirmed=lambda _channels: None,
        on_refused=lambda _channel, _text: None,
        ping_every_s=10.0,
        answer_within_s=10.0,
    )


async def test_t43_the_writer_does_not_let_redis_py_connect_again() -> None:
    """redis-py connects before it sends; the new connection would know no channel, and nobody would be told."""
    raw = FakeRaw(is_connected=False)
    connection = connection_over(raw)
    connection.subscribe([b"a"])
    with pytest.raises(ConnectionSilent, match="closed"):
        await connection.run()
    assert raw.sent == []


async def test_an_end_that_is_cancelled_is_complete_all_the_same() -> None:
    """close() while the supervisor is ending a lost connection, and a part that lost its first cancel."""
    raw = FakeRaw(is_connected=True)
    ended: list[str] = []
    cancels = asyncio.Queue[None]()

    async def stubborn() -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            cancels.put_nowait(None)
        ended.append("stubborn")

    running = asyncio.create_task(connection_over(raw).run(stubborn()))
    await next_turn()
    raw.lost.set()
    await cancels.get()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["stubborn"]
    assert not raw.is_connected
    assert own_tasks() == []


# --- the end


async def test_close_leaves_nothing(listening: Listening, client: Redis, link: Link, publish: Publish) -> None:
    url = await link.open()
    listener = await listening.start(url, control_channel=CONTROL, publish=publish, canary_every_s=0.01)
    assert len(own_tasks()) == 5  # the supervisor; reader, writer, watch and canary
    await listener.subscribe("a", ignore)
    link.up.clear()
    waiting = asyncio.create_task(listener.subscribe("b", ignore))
    await next_turn()
    await listener.close()
    await listener.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        await waiting
    link.up.set()
    assert own_tasks() == []
    await wait_until(has_subscribers(client, "a", 0), "the server to see the end")
    assert listener.confirmed_count == 0
    assert listening.states[-1].status == "closed"


async def test_the_listener_does_not_end_when_a_stranger_cancels_it(listening: Listening, client: Redis) -> None:
    listener = await listening.start()
    got: list[bytes] = []
    await listener.subscribe("a", got.append)
    for name in ("subscriptions", "subscriptions-connection"):
        listening.confirmed.clear()
        for task in asyncio.all_tasks():
            if task.get_name() == name:
                task.cancel()
        await wait_until(lambda: listening.confirmed, "the channel to be confirmed anew")
    await client.publish("a", b"1")
    await wait_until(lambda: got, "a message")
