"""The event streams of one server: how many there may be, and what each sends until its client leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.cancel.live.events import Place
from broker.cancel.live.hub import LiveRuns
from broker.cancel.live.stream import RunStream
from broker.errors import BrokerError, TooManyStreams
from broker.observe import signals
from broker.observe.events import STREAM_ENDED
from broker.observe.log import get_logger
from broker.server.sse import HEARTBEAT, OPENING, encode, encode_settled

log = get_logger("broker.server")

HEARTBEAT_S = 15.0
WAITING_LIMIT = 5_000
"""Events that wait for one client: about a megabyte."""
MOST = 256


@dataclass(slots=True)
class Streams:
    """At most `most` at the same time. After `heartbeat_s` of silence a comment keeps proxies from closing one."""

    most: int = MOST
    heartbeat_s: float = HEARTBEAT_S
    waiting_limit: int = WAITING_LIMIT
    open: int = 0

    @asynccontextmanager
    async def of(self, live: LiveRuns, run_id: str, after: Place | None) -> AsyncIterator[RunStream]:
        """A stream for the length of the block. Raises TooManyStreams, NotFound, BrokerUnavailable."""
        if self.open >= self.most:
            raise TooManyStreams(
                f"{self.open} event streams are open here, allowed are {self.most}; try another server"
            )
        self.open += 1
        try:
            stream = await live.join(run_id, self.waiting_limit)
            try:
                if after is not None:
                    stream.resume(after)
                yield stream
            finally:
                await live.leave(stream)
        finally:
            self.open -= 1

    async def pump(self, stream: RunStream, send: Callable[[bytes], Awaitable[None]], *, until_settled: bool) -> None:
        """Sends for ever, or until everything is settled. Where Redis is away, the stream is over: clients resume."""
        await send(OPENING)
        try:
            while True:
                placed = await stream.batch(self.heartbeat_s)
                await signals.reached("live.sending", stream.run_id)
                await send(encode(stream.run_id, placed) if placed else HEARTBEAT)
                if until_settled and stream.idle and stream.settled:
                    return await send(encode_settled(stream.run_id))
        except BrokerError as error:
            log.warning(STREAM_ENDED, run_id=stream.run_id, error=str(error))
