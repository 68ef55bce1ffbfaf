"""What stands between a worker program and Redis: it sees every command, and can hold, drop and cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import hiredis

from broker.observe.log import get_logger

log = get_logger("broker.conformance")
_READ = 65_536
_COUNTED, _SIZED, _PAIRED = b"*>~", b"$=!", b"%|"


@dataclass(frozen=True, slots=True)
class Seen:
    """A command of the program, or a push to it (`message`, `subscribe`, …)."""

    words: tuple[str, ...]
    is_push: bool


async def _pass(words: tuple[str, ...]) -> bool:
    return True


class Gate:
    """Holds whatever comes to it, until it is opened."""

    def __init__(self) -> None:
        self._reached, self._open = asyncio.Event(), asyncio.Event()

    def is_reached(self) -> bool:
        return self._reached.is_set()

    def open(self) -> None:
        self._open.set()

    async def pass_on(self) -> bool:
        self._reached.set()
        await self._open.wait()
        return True


@dataclass(eq=False, slots=True)
class _Link:
    """A connection of the program; `waiting` is the number of its commands that are not answered yet."""

    writer: asyncio.StreamWriter
    subscribes: bool = False
    waiting: int = 0


class Proxy:
    """One program's way to Redis, which may have any number of connections.

    `on_command` and `on_push` are awaited before something is passed on, so that they can hold it; what answers
    False is dropped. `seen` has everything in the order in which it came here.
    """

    def __init__(self, host: str, port: int) -> None:
        self.seen: list[Seen] = []
        self.on_command: Callable[[tuple[str, ...]], Awaitable[bool]] = _pass
        self.on_push: Callable[[tuple[str, ...]], Awaitable[bool]] = _pass
        self._target = host, port
        self._away = False
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """The port to connect to, on the loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._away = True
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def is_quiet(self) -> bool:
        """Every command that came is answered; those of a connection that subscribes are not counted."""
        return not any(link.waiting for link in self._links if not link.subscribes)

    @property
    def is_deserted(self) -> bool:
        """No connection is left, and all that came over one is in `seen`."""
        return not self._links

    def end_subscriptions(self) -> None:
        """As CLIENT KILL TYPE pubsub does it."""
        for link in [link for link in self._links if link.subscribes]:
            link.writer.close()

    def cut(self) -> None:
        """Resets every connection, and every new one until `restore`: the network is gone."""
        self._away = True
        for link in list(self._links):
            link.writer.transport.abort()

    def restore(self) -> None:
        self._away = False

    # --- passing on ---------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        ends = [writer]
        try:
            answers, upstream = await asyncio.open_connection(*self._target)
            ends.append(upstream)
            await self._pass_on(link, reader, answers, upstream)
        except OSError as error:
            log.warning("conformance.redis_away", error=str(error))  # the program sees its connection closed
        finally:
            self._links.discard(link)
            for end in ends:
                end.close()
            await asyncio.gather(*(end.wait_closed() for end in ends), return_exceptions=True)

    async def _pass_on(
        self, link: _Link, reader: asyncio.StreamReader, answers: asyncio.StreamReader, upstream: asyncio.StreamWriter
    ) -> None:
        """Until either side is gone."""
        ways = ((reader, upstream, self._command), (answers, link.writer, self._reply))
        pumps = [asyncio.create_task(_pump(source, sink, look, link)) for source, sink, look in ways]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _command(self, frame: bytes, link: _Link) -> bool:
        words = _words(frame)
        if words and words[0].upper() in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"):
            link.subscribes = True
        self.seen.append(Seen(words, False))
        link.waiting += 1
        if await self.on_command(words):
            return True
        link.waiting -= 1
        return False

    async def _reply(self, frame: bytes, link: _Link) -> bool:
        if not link.subscribes or frame[:1] not in (b"*", b">"):
            link.waiting -= frame[:1] != b">"
            return True
        words = _words(frame)
        if await self.on_push(words):
            self.seen.append(Seen(words, True))
            return True
        return False


_Look = Callable[[bytes, _Link], Awaitable[bool]]


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, look: _Look, link: _Link) -> None:
    buffer = bytearray()
    with contextlib.suppress(OSError):  # either side is gone, and with it the link
        while data := await source.read(_READ):
            buffer += data
            while (end := frame_end(buffer)) > 0:
                frame = bytes(buffer[:end])
                del buffer[:end]
                if await look(frame, link):
                    sink.write(frame)
            await sink.drain()


def frame_end(data: bytes | bytearray) -> int:
    """How long the first RESP value of `data` is (version 2 or 3), -1 where it is not all there."""
    at, left = 0, 1
    while left:
        end = data.find(b"\r\n", at)
        if end < 0:
            return -1
        kind, number = bytes(data[at : at + 1]), bytes(data[at + 1 : end])
        at, left = end + 2, left - 1
        if kind in _SIZED:
            at += max(int(number) + 2, 0) if number != b"-1" else 0
        elif kind in _COUNTED:
            left += max(int(number), 0)
        elif kind in _PAIRED:
            left += 2 * int(number)
    return at if at <= len(data) else -1


def _words(frame: bytes) -> tuple[str, ...]:
    reader = hiredis.Reader()
    reader.feed(frame)
    value: Any = reader.gets()
    return tuple(_text(one) for one in value) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
