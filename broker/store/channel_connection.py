"""One connection that carries subscriptions, from its handshake to its end; it never reconnects.

Three tasks share it and end together: a reader, a writer (the only one that sends) and a watch.
Redis answers in the order of asking, so the commands that are not answered yet form a queue, and
each answer belongs to the head of it. A channel is confirmed when the *last* command that names it
is an answered SUBSCRIBE: an older confirmation is never taken for a newer one.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from redis.exceptions import ResponseError

from broker.observe.events import SUBSCRIPTIONS_CANARY_FAILED, SUBSCRIPTIONS_REAP_FAILED
from broker.observe.log import get_logger

SUBSCRIBE_CHUNK = 500  # channels in one command: about 40 kB, which Redis takes in well under 1 ms
UNSUBSCRIBE_LINGER_S = 0.01
SECOND_LOOK_S = 0.25
SHORTEST_PAUSE_S = 0.001
REAP_ROUND_S = 0.1
REAP_ROUNDS = 10
CANARY_PREFIX = b'{"v":1,"type":"canary"'

Publish = Callable[[str, bytes], Awaitable[int]]

log = get_logger(__name__)


class ConnectionSilent(Exception):
    """Something was due from Redis and did not come: the connection is open and dead (T4, T47)."""


class AnswerOutOfOrder(Exception):
    """Redis answered something that was not asked: this connection cannot be trusted any more."""


class RawConnection(Protocol):
    """What is used of `redis.asyncio.Connection`, which is only partly typed."""

    @property
    def is_connected(self) -> bool: ...

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = False) -> None: ...

    async def send_command(self, *args: str | bytes, check_health: bool) -> None: ...

    async def read_response(self, *, timeout: float, disconnect_on_error: bool) -> Any: ...


@dataclass(slots=True)
class _Command:
    number: int
    verb: bytes
    channels: list[bytes]
    asked_at: float
    answers_due: int

    @property
    def answer(self) -> bytes:
        return b"pong" if self.verb == b"ping" else self.verb


class ChannelConnection:
    """Subscriptions on one connection. Times in seconds, by the loop's monotonic clock.

    `on_message(channel, payload)` must not raise. `on_confirmed(channels)` comes once for each answered
    SUBSCRIBE. `on_refused(channel, text)`: Redis said no (ACL); it is asked again every `ping_every_s`.
    """

    def __init__(
        self,
        raw: RawConnection,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_confirmed: Callable[[list[bytes]], None],
        on_refused: Callable[[bytes, str], None],
        ping_every_s: float,
        answer_within_s: float,
    ) -> None:
        self._raw = raw
        self._on_message, self._on_confirmed, self._on_refused = on_message, on_confirmed, on_refused
        self._ping_every_s, self._answer_within_s = ping_every_s, answer_within_s
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._changes: dict[bytes, bool] = {}  # not sent yet: True is subscribe, and the newest word counts
        self._latest: dict[bytes, int] = {}  # number of the last command that names the channel
        self._number = 0
        self._ping_wanted = False
        self._singly: set[bytes] = set()  # were in a refused chunk: asked one by one, to learn which it was
        self._refused: set[bytes] = set()
        self._unanswered: deque[_Command] = deque()
        self._last_read = self._loop.time()

    def subscribe(self, channels: Iterable[bytes]) -> None:
        """Ask for these; what is asked for in one turn of the loop goes out together."""
        self._changes.update(dict.fromkeys(channels, True))
        self._wake.set()

    def unsubscribe(self, channel: bytes) -> None:
        """Nobody waits for it: it goes along with the next SUBSCRIBE, or a moment later with others."""
        self._refused.discard(channel)
        if channel not in self._latest:
            self._changes.pop(channel, None)
            return
        self._changes[channel] = False
        if self._linger is None:
            self._linger = self._loop.call_later(UNSUBSCRIBE_LINGER_S, self._wake.set)

    async def run(self, *companions: Coroutine[Any, Any, None]) -> NoReturn:
        """Serve until something fails, and raise that. `companions` share the fate of the connection."""
        works = (self._read(), self._write(), self._watch(), *companions)
        tasks = [self._loop.create_task(work, name="subscriptions-connection") for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled():
                    task.result()
            raise ConnectionSilent("a part of the listener was cancelled by foreign code")
        finally:
            if self._linger is not None:
                self._linger.cancel()
            try:
                await reap(tasks)
            finally:
                await self._raw.disconnect(nowait=True)

    async def _read(self) -> None:
        # No timeout per read: it would cost a task or a timer per message. `_watch` bounds the silence.
        read, deliver, now = self._raw.read_response, self._on_message, self._loop.time
        while True:
            try:
                reply = await read(timeout=math.inf, disconnect_on_error=False)
            except ResponseError as refusal:
                reply = refusal
            self._last_read = now()
            if type(reply) is list and reply[0] == b"message":
                deliver(reply[1], reply[2])
            else:
                self._take_answer(reply)

    def _take_answer(self, reply: Any) -> None:
        # Before the first SUBSCRIBE a PING is answered by a bare PONG.
        kind = reply[0] if type(reply) is list else reply
        if not self._unanswered:
            raise AnswerOutOfOrder(f"nothing was asked, and Redis said {kind!r}")
        command = self._unanswered[0]
        if isinstance(kind, ResponseError):  # one error answers the whole command
            self._unanswered.popleft()
            self._take_refusal(command, str(kind))
            return
        if kind.lower() != command.answer:
            raise AnswerOutOfOrder(f"{command.answer!r} was due, and Redis said {kind!r}")
        command.answers_due -= 1
        if command.answers_due == 0:
            self._unanswered.popleft()
            self._complete(command)

    def _complete(self, command: _Command) -> None:
        current = [channel for channel in command.channels if self._latest[channel] == command.number]
        if command.verb == b"unsubscribe":
            for channel in current:
                del self._latest[channel]
        elif current:
            self._singly.difference_update(current)
            self._refused.difference_update(current)
            self._on_confirmed(current)

    def _take_refusal(self, command: _Command, text: str) -> None:
        if command.verb != b"subscribe":
            return  # an answer all the same: the connection lives
        current = [channel for channel in command.channels if self._latest[channel] == command.number]
        if len(command.channels) > 1:
            self._singly.update(current)
            self.subscribe(channel for channel in current if channel not in self._changes)
            return
        for channel in current:
            self._refused.add(channel)
            self._on_refused(channel, text)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for command in self._take_changes():
                if not self._raw.is_connected:
                    # redis-py would connect again by itself, to a server that knows no channel of ours (T43)
                    raise ConnectionSilent("the connection was closed while something was to be sent")
                await self._raw.send_command(command.verb, *command.channels, check_health=False)
                await asyncio.sleep(0)  # 50,000 channels after a reconnect must not hold up the loop

    def _take_changes(self) -> list[_Command]:
        # All are booked before the first is sent: what changes while a send drains must find them.
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        changes, self._changes = self._changes, {}
        leave = [channel for channel, wanted in changes.items() if not wanted]
        singly = [channel for channel, wanted in changes.items() if wanted and channel in self._singly]
        join = [channel for channel, wanted in changes.items() if wanted and channel not in self._singly]
        commands = [self._book(b"unsubscribe", chunk) for chunk in _chunks(leave, SUBSCRIBE_CHUNK)]
        commands += [self._book(b"subscribe", chunk) for chunk in _chunks(join, SUBSCRIBE_CHUNK)]
        commands += [self._book(b"subscribe", chunk) for chunk in _chunks(singly, 1)]
        if self._ping_wanted:
            self._ping_wanted = False
            commands.append(self._book(b"ping", []))
        return commands

    def _book(self, verb: bytes, channels: list[bytes]) -> _Command:
        self._number += 1
        self._latest.update(dict.fromkeys(channels, self._number))
        command = _Command(self._number, verb, channels, self._loop.time(), len(channels) or 1)
        self._unanswered.append(command)
        return command

    async def _watch(self) -> None:
        while True:
            # Never longer than the time between two PINGs: an answer that comes meanwhile brings the next one forward.
            pause_s = min(self._due_at() - self._loop.time(), self._ping_every_s)
            await asyncio.sleep(max(pause_s, SHORTEST_PAUSE_S))
            if self._refused:
                self.subscribe(channel for channel in self._refused if channel not in self._changes)
            due_at = self._due_at()
            if due_at > self._loop.time():
                continue
            if not self._unanswered:
                self._ping_wanted = True
                self._wake.set()
                continue
            # Was it the loop that was held up? Then the answer is here and unread: look once more.
            await asyncio.sleep(SECOND_LOOK_S)
            if self._due_at() == due_at:
                raise ConnectionSilent(f"no answer to {self._unanswered[0].verb.decode()} in {self._answer_within_s} s")

    def _due_at(self) -> float:
        if self._unanswered:
            return max(self._unanswered[0].asked_at, self._last_read) + self._answer_within_s
        return self._last_read + self._ping_every_s


class Canary:
    """A message to ourselves, through the command connection: only its return shows that messages arrive (T4).

    Made for the life of the listener; `keep` runs beside each connection and raises ConnectionSilent when the
    canary was published and is not back `deadline_s` later. `back_at` is when one was last back (at first: when this
    was made), by `time.monotonic`; `failures` counts those that could not be sent or did not come back.
    """

    def __init__(self, channel: str, publish: Publish, every_s: float, deadline_s: float) -> None:
        self._channel, self._publish = channel, publish
        self._every_s, self._deadline_s = every_s, deadline_s
        self._payload = CANARY_PREFIX
        self._back = asyncio.Event()
        self.failures = 0
        self.back_at = time.monotonic()

    def take(self, payload: bytes) -> bool:
        """True if this was a canary: the one waited for, a late one, or one of another process."""
        if payload == self._payload:
            self._back.set()
            self.back_at = time.monotonic()
        return payload.startswith(CANARY_PREFIX)

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self._payload = CANARY_PREFIX + b',"nonce":"%s"}' % uuid.uuid4().hex.encode()
            self._back.clear()
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self._publish(self._channel, self._payload)
            except Exception as error:  # noqa: BLE001 - whatever the owner publishes with
                # The trouble of the command connection is not ours: PING judges this one.
                self.failures += 1
                log.warning(SUBSCRIPTIONS_CANARY_FAILED, error=repr(error))
                continue
            if not await self._returned():
                self.failures += 1
                raise ConnectionSilent(f"the canary was not back in {self._deadline_s} s")

    async def _returned(self) -> bool:
        # The second look is for a loop that was held up itself: then the canary is here and unread.
        for wait_s in (self._deadline_s, SECOND_LOOK_S):
            try:
                async with asyncio.timeout(wait_s):
                    await self._back.wait()
            except TimeoutError:
                continue
            return True
        return False


def _chunks(channels: list[bytes], size: int) -> Iterable[list[bytes]]:
    return (channels[start : start + size] for start in range(0, len(channels), size))


async def reap(tasks: Collection[asyncio.Task[None]], round_s: float = REAP_ROUND_S) -> None:
    """Cancel these and wait for their end, at most `REAP_ROUNDS` times; logged if something is left.

    One cancel is not enough: `asyncio.wait_for` of Python 3.11, which redis-py sends with, loses the one that comes
    in the tick in which the result does. A cancel of the caller is raised when all is done, not before.
    """
    cancelled: asyncio.CancelledError | None = None
    pending = set(tasks)
    for _ in range(REAP_ROUNDS):
        for task in pending:
            task.cancel()
        if pending:
            try:
                await asyncio.wait(pending, timeout=round_s)
            except asyncio.CancelledError as error:
                cancelled = error
        pending = {task for task in pending if not task.done()}
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # it has been looked at: no "never retrieved" in the log
    if pending:
        log.error(SUBSCRIPTIONS_REAP_FAILED, tasks=len(pending))
    if cancelled is not None:
        raise cancelled
