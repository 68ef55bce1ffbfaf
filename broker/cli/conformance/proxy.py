"""What stands between a worker program and Redis: it sees every command, and can hold, drop and cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import hiredis

_READ = 65_536
_COUNTED, _SIZED, _PAIRED = b"*>~", b"$=!", b"%|"


@dataclass(frozen=True, slots=True)
class Seen:
    """A command of the program, or a push to it (`message`, `subscribe`, …); `at` is the loop's time in seconds."""

    words: tuple[str, ...]
    is_push: bool
    at: float


async def _pass(words: tuple[str, ...]) -> bool:
    return True


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
        self._links: dict[asyncio.StreamWriter, bool] = {}  # the program's side → whether it subscribes
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """The port to connect to, on the loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def end_subscriptions(self) -> None:
        """As CLIENT KILL TYPE pubsub does it."""
        for link in [link for link, subscribes in self._links.items() if subscribes]:
            link.close()

    def cut(self) -> None:
        """Resets every connection, and every new one until `restore`: the network is gone."""
        self._away = True
        for link in list(self._links):
            link.transport.abort()

    def restore(self) -> None:
        self._away = False

    # --- passing on ---------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        self._links[writer] = False
        both = [self._command, self._reply]
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection(*self._target)
            ways = ((reader, upstream, both[0]), (answers, writer, both[1]))
            pumps = [asyncio.create_task(_pump(source, sink, look, writer)) for source, sink, look in ways]
            self._pumps.update(pumps)
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pumps.difference_update(pumps)
        finally:
            self._links.pop(writer, None)
            for end in (writer, upstream):
                if end is not None:
                    end.close()

    async def _command(self, frame: bytes, link: asyncio.StreamWriter) -> bool:
        words = _words(frame)
        if words and words[0].upper() in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"):
            self._links[link] = True
        self.seen.append(Seen(words, False, asyncio.get_running_loop().time()))
        return await self.on_command(words)

    async def _reply(self, frame: bytes, link: asyncio.StreamWriter) -> bool:
        if not self._links.get(link) or frame[:1] not in (b"*", b">"):
            return True
        words = _words(frame)
        if await self.on_push(words):
            self.seen.append(Seen(words, True, asyncio.get_running_loop().time()))
            return True
        return False


_Look = Callable[[bytes, asyncio.StreamWriter], Awaitable[bool]]


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, look: _Look, link: asyncio.StreamWriter
) -> None:
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
