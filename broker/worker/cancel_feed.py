"""The cancel channels that this process hears on behalf of workers without Redis: one subscription a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from broker.store.subscriptions import Subscriptions

Hearer = Callable[[str], None]

LINGER_S = 5.0  # polls of one worker follow each other at once; each would subscribe and unsubscribe


@dataclass(slots=True, eq=False)
class _Channel:
    subscribing: asyncio.Task[None]
    hearers: set[Hearer] = field(default_factory=set)
    departures: int = 0


class CancelFeed:
    """Many may hear a channel; it is given up a few seconds after the last of them has left.

    A hearer is called with the name of the channel, at each message and at each confirmation: what was
    published before that may be gone.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._channels: dict[str, _Channel] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._dropping: set[asyncio.Task[None]] = set()

    @property
    def channels(self) -> frozenset[str]:
        """What is subscribed, or about to be."""
        return frozenset(self._channels)

    async def join(self, channels: Collection[str], hearer: Hearer) -> None:
        """Returns when every channel is confirmed. Raises BrokerUnavailable, and hears nothing then."""
        waiting = [self._enter(channel, hearer) for channel in channels]
        try:
            for subscribing in waiting:
                await asyncio.shield(subscribing)
        except BaseException:
            self.leave(channels, hearer)
            raise

    def leave(self, channels: Collection[str], hearer: Hearer) -> None:
        left: list[tuple[str, _Channel, int]] = []
        for name in channels:
            channel = self._channels.get(name)
            if channel is None or hearer not in channel.hearers:
                continue
            channel.hearers.discard(hearer)
            if not channel.hearers:
                channel.departures += 1
                left.append((name, channel, channel.departures))
        if left:
            self._drop_later(left)

    def confirmed(self, channels: Collection[str]) -> None:
        """Called at every confirmation."""
        for channel in channels:
            self._hear(channel)

    def close(self) -> None:
        """Drops nothing later: the listener is about to end."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _enter(self, name: str, hearer: Hearer) -> asyncio.Task[None]:
        channel = self._channels.get(name)
        if channel is None:
            subscribing = asyncio.create_task(self._subscriptions.subscribe(name, lambda _: self._hear(name)))
            channel = self._channels[name] = _Channel(subscribing)
            subscribing.add_done_callback(partial(self._subscribed, name, channel))
        channel.hearers.add(hearer)
        return channel.subscribing

    def _subscribed(self, name: str, channel: _Channel, done: asyncio.Task[None]) -> None:
        """What was not confirmed is not held: whoever comes next subscribes again."""
        failed = done.cancelled() or done.exception() is not None
        if failed and self._channels.get(name) is channel:
            del self._channels[name]

    def _drop_later(self, left: list[tuple[str, _Channel, int]]) -> None:
        def drop() -> None:
            self._timers.discard(timer)
            names = [name for name, channel, departures in left if self._is_idle(name, channel, departures)]
            for name in names:
                del self._channels[name]
            dropping = asyncio.ensure_future(self._unsubscribe(names))
            self._dropping.add(dropping)
            dropping.add_done_callback(self._dropping.discard)

        timer = asyncio.get_running_loop().call_later(LINGER_S, drop)
        self._timers.add(timer)

    def _is_idle(self, name: str, channel: _Channel, departures: int) -> bool:
        return self._channels.get(name) is channel and not channel.hearers and channel.departures == departures

    async def _unsubscribe(self, names: list[str]) -> None:
        for name in names:  # in one turn of the loop, before anyone who comes back can subscribe again
            await self._subscriptions.unsubscribe(name)

    def _hear(self, name: str) -> None:
        channel = self._channels.get(name)
        for hearer in tuple(channel.hearers) if channel else ():
            hearer(name)
