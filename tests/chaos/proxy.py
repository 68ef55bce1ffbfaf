"""A TCP proxy between one part of the fleet and Redis, that can fail in every way in which a network does."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from tests.support.wait import spread

CHUNK = 65536
BOTH = ("up", "down")


class _Pair:
    """One connection through the proxy: what comes from the client goes up, what comes from Redis goes down."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = {"down": client, "up": server}
        self.cut: set[str] = set()

    def abort(self) -> None:
        for writer in self.writers.values():
            transport = writer.transport
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()


class Link:
    """One listening port. Faults act on this link alone."""

    def __init__(self, redis_port: int) -> None:
        self._redis_port = redis_port
        self._pairs: set[_Pair] = set()
        self._serving: set[asyncio.Task[object]] = set()
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._delay_s = 0.0

    @property
    def url(self) -> str:
        assert self._server is not None, "not entered"
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    # --- faults ---------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Resets every present connection."""
        for pair in list(self._pairs):
            pair.abort()

    def half_open(self, directions: tuple[str, ...] = BOTH) -> None:
        """Present connections stay open and lose whatever is sent in these directions, for ever."""
        for pair in self._pairs:
            pair.cut.update(directions)

    async def refuse(self, seconds: float) -> None:
        """Nobody gets through."""
        self._refusing = True
        self.drop()
        await spread(seconds)
        self._refusing = False

    async def stall(self, seconds: float) -> None:
        """Nothing passes, and nothing is lost."""
        self._open.clear()
        await spread(seconds)
        self._open.set()

    async def delay(self, seconds: float, by_s: float) -> None:
        """Every piece comes later."""
        self._delay_s = by_s
        await spread(seconds)
        self._delay_s = 0.0

    def heal(self) -> None:
        """Everything passes again. What is half open stays so: nobody will ever mend that but its client."""
        self._refusing, self._delay_s = False, 0.0
        self._open.set()

    # --- forwarding -----------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        if self._refusing:
            writer.transport.abort()
            return
        try:
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port, limit=CHUNK)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, to_redis)
        self._pairs.add(pair)
        pumps = [
            asyncio.create_task(self._pump(pair, reader, "up")),
            asyncio.create_task(self._pump(pair, from_redis, "down")),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            return  # ours, at the end of the round: asyncio's streams of 3.11 log a handler that was cancelled
        finally:
            for pump in pumps:
                pump.cancel()
            pair.abort()
            self._pairs.discard(pair)
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, direction: str) -> None:
        writer = pair.writers[direction]
        with contextlib.suppress(ConnectionError, OSError):
            while data := await reader.read(CHUNK):
                if self._delay_s:
                    await spread(self._delay_s)
                await self._open.wait()
                if direction not in pair.cut:
                    writer.write(data)
                    await writer.drain()
        if pair.cut:
            await asyncio.Event().wait()  # a half-open end does not hear that the other one has gone
