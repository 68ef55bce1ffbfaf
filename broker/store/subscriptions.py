"""Channel → handler: the one pub/sub listener, used by the worker SDK and by the broker.

One task, the supervisor, owns the connection: it connects, subscribes again to everything held,
and connects again for ever (T43). Every confirmation, first or repeated, is told to the owner,
because what was published in between is gone and only a read of the durable intents finds it (T3).
PING and a canary find a connection that is open and dead (T4, T47).

All of it lives in the event loop that called `start`; nothing here may be called from another thread.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from redis.asyncio import ConnectionPool

from broker.errors import BrokerUnavailable
from broker.observe.events import (
    SUBSCRIPTIONS_CALLBACK_FAILED,
    SUBSCRIPTIONS_CLOSED,
    SUBSCRIPTIONS_CONNECTED,
    SUBSCRIPTIONS_DEGRADED,
    SUBSCRIPTIONS_HANDLER_FAILED,
    SUBSCRIPTIONS_SUPERVISOR_FAILED,
)
from broker.observe.log import get_logger
from broker.store.address import bad_address
from broker.store.channel_connection import Canary, ChannelConnection, Publish, RawConnection, reap
from broker.store.patience import Patience

Handler = Callable[[bytes], None]

BACKOFF_FIRST_S = 0.01
BACKOFF_MAX_S = 1.0
CLOSE_ROUND_S = 2.0  # longer than the supervisor may need to end its own tasks
T = TypeVar("T")

log = get_logger(__name__)
_CHANGES = {
    "connected": SUBSCRIPTIONS_CONNECTED, "degraded": SUBSCRIPTIONS_DEGRADED, "closed": SUBSCRIPTIONS_CLOSED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListenerState:
    """`connected`: everything held at the last connect is confirmed. `reason` says why it is not so.

    `reconnects` counts the connections made after the first.
    """

    status: Literal["connecting", "connected", "degraded", "closed"]
    reason: str | None = None
    reconnects: int = 0


@dataclass(slots=True)
class _Held:
    handler: Handler
    confirmed: asyncio.Future[None] | None = None  # only while somebody waits for it

    def tell(self, error: BrokerUnavailable | None = None) -> bool:
        """Answers whoever waits for the confirmation; False where nobody does."""
        waiting, self.confirmed = self.confirmed, None
        if waiting is None or waiting.done():
            return False
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)
        return True


class Subscriptions:
    """The listener of one process on one Redis. Durations are seconds.

    - `control_channel` with `publish`: a canary goes out every `canary_every_s` through the *command* connection,
      and the connection is rebuilt when it is not back within `canary_deadline_s`.
    - `ping_every_s`: PING after that much silence; no answer to anything within `canary_deadline_s` rebuilds too.
      So a dead connection is found within `ping_every_s + canary_deadline_s` and a quarter of a second.
    - `on_confirmed(channels)`: after every confirmation, first or repeated: read the intents now.
    - `on_control(payload)`: what comes on the control channel and is no canary.
    - `on_state(state)`: at every change of the state.

    Callbacks and handlers are synchronous and quick. One that raises is logged and counted, and nothing else.
    A `url` that cannot be one raises InvalidInput.
    """

    def __init__(
        self,
        url: str,
        *,
        control_channel: str | None = None,
        publish: Publish | None = None,
        canary_every_s: float = 5.0,
        canary_deadline_s: float = 5.0,
        ping_every_s: float = 5.0,
        connect_timeout_s: float = 5.0,
        on_confirmed: Callable[[frozenset[str]], None] | None = None,
        on_control: Callable[[bytes], None] | None = None,
        on_state: Callable[[ListenerState], None] | None = None,
    ) -> None:
        # Set after the URL was read, so that its options cannot change what the listener depends on (T5).
        try:
            self._pool: Any = ConnectionPool.from_url(url)
        except ValueError as error:
            raise bad_address(url, error) from error
        self._pool.connection_kwargs.update(
            protocol=2,
            decode_responses=False,
            socket_timeout=None,
            socket_connect_timeout=connect_timeout_s,
            health_check_interval=0,
        )
        self._pool.connection_kwargs.setdefault("client_name", "broker-listener")  # what CLIENT LIST shows
        self._ping_every_s, self._answer_within_s = ping_every_s, canary_deadline_s
        self._connect_timeout_s = connect_timeout_s
        self._on_confirmed, self._on_control, self._on_state = on_confirmed, on_control, on_state
        self._control_channel = control_channel
        self._canary: Canary | None = None
        if control_channel is not None and publish is not None:
            self._canary = Canary(control_channel, publish, canary_every_s, canary_deadline_s)
        self._held: dict[bytes, _Held] = {}
        self._patiences: dict[float, Patience] = {}
        self._confirmed: set[bytes] = set()
        self._resubscribing: set[bytes] = set()
        self._connection: ChannelConnection | None = None
        self._connects = 0
        self._supervisor: asyncio.Task[None] | None = None
        self._first_connected = asyncio.Event()
        self._closing = False
        self._state = ListenerState("connecting")
        self.callback_errors = 0

    @property
    def state(self) -> ListenerState:
        return self._state

    @property
    def degraded(self) -> str | None:
        """Why messages may be missed at present, None where all that is held is confirmed."""
        return None if self._state.status == "connected" else self._state.reason or self._state.status

    @property
    def reconnects(self) -> int:
        return max(self._connects - 1, 0)

    @property
    def canary_failures(self) -> int:
        return 0 if self._canary is None else self._canary.failures

    def canary_age_s(self) -> float | None:
        """Since a canary was last back, None where there is none."""
        return None if self._canary is None else time.monotonic() - self._canary.back_at

    @property
    def confirmed_count(self) -> int:
        """Channels confirmed on the present connection, the control channel included."""
        return len(self._confirmed)

    async def start(self) -> None:
        """Connect and return when the control channel (if any) is confirmed; called once.

        Raises BrokerUnavailable when that takes longer than `connect_timeout_s`; nothing is left running then.
        """
        if self._supervisor is not None or self._closing:
            raise RuntimeError("start() is called once, and not after close()")
        if self._control_channel is not None:
            self._hold(self._control_channel.encode(), self._take_control_message)
        self._launch()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._first_connected.wait()
        except TimeoutError:
            reason = self._state.reason or "no answer"
            await self.close()
            text = f"Redis cannot be listened to: nothing confirmed within {self._connect_timeout_s} s ({reason})"
            raise BrokerUnavailable(text) from None
        except BaseException:
            await self.close()
            raise

    async def subscribe(self, channel: str, handler: Handler, timeout_s: float | None = None) -> None:
        """Return once Redis has confirmed; messages may reach the handler a little before.

        Waits at most `timeout_s` (default: the connect timeout), through reconnects. Raises BrokerUnavailable
        if it was not confirmed, ValueError if the channel has a handler. Whatever is raised, the channel is not held.
        """
        if self._closing or self._supervisor is None:
            raise BrokerUnavailable(f"cannot subscribe to {channel}: the listener is not running")
        key = channel.encode()
        held = self._hold(key, handler)
        wait_s = self._connect_timeout_s if timeout_s is None else timeout_s
        confirmed = self._watched(held, wait_s)
        try:
            await confirmed
        except TimeoutError:
            self._forget(key, held)
            text = f"Redis did not confirm {channel} within {wait_s} s ({self._state.reason or 'no answer'})"
            raise BrokerUnavailable(text) from None
        except BaseException:
            self._forget(key, held)
            raise

    def _watched(self, held: _Held, wait_s: float) -> asyncio.Future[None]:
        confirmed = held.confirmed = asyncio.get_running_loop().create_future()
        patience = self._patiences.get(wait_s)
        if patience is None:
            patience = self._patiences[wait_s] = Patience(wait_s)
        patience.watch(confirmed)
        return confirmed

    async def unsubscribe(self, channel: str) -> None:
        """Forget the handler now; UNSUBSCRIBE follows in a batch and nobody waits for it. Unknown: no-op."""
        key = channel.encode()
        held = self._held.get(key)
        if held is not None and channel != self._control_channel:
            self._forget(key, held)
            held.tell(BrokerUnavailable(f"{channel} was unsubscribed while it was subscribed"))

    async def close(self) -> None:
        """End the task and the connection; whoever waits in `subscribe` gets BrokerUnavailable. Repeatable."""
        self._closing = True
        if self._supervisor is not None:
            await reap([self._supervisor], CLOSE_ROUND_S)
        for key, held in list(self._held.items()):
            self._forget(key, held)
            held.tell(BrokerUnavailable(f"the listener was closed: {key.decode()}"))
        self._set_state("closed", None)

    def _hold(self, key: bytes, handler: Handler) -> _Held:
        if key in self._held:
            raise ValueError(f"{key.decode()} has a handler: unsubscribe it first, or share one handler")
        held = self._held[key] = _Held(handler)
        if self._connection is not None:
            self._connection.subscribe((key,))
        return held

    def _forget(self, key: bytes, held: _Held) -> None:
        if self._held.get(key) is not held:
            return  # a newer subscription has the name by now
        del self._held[key]
        self._confirmed.discard(key)
        if self._connection is not None:
            self._connection.unsubscribe(key)
        if key in self._resubscribing:
            self._resubscribing.discard(key)
            self._settle_state()

    def _launch(self) -> None:
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise(), name="subscriptions")
        self._supervisor.add_done_callback(self._supervisor_ended)

    def _supervisor_ended(self, task: asyncio.Task[None]) -> None:
        if not self._closing:  # somebody else cancelled it: a listener never ends silently
            error = None if task.cancelled() else task.exception()
            log.error(SUBSCRIPTIONS_SUPERVISOR_FAILED, error=repr(error), cancelled=task.cancelled())
            self._launch()

    async def _supervise(self) -> None:
        clock, failures = asyncio.get_running_loop().time, 0
        while not self._closing:
            connected_at = None
            try:
                raw = await self._connect()
                connected_at = clock()
                await self._serve(raw)
            except Exception as error:  # noqa: BLE001 - not only RedisError: see T43
                self._degrade(f"{type(error).__name__}: {error}")
            # Only a connection that lasted resets the backoff: one that is cut at once must not become a busy loop.
            lasted = connected_at is not None and clock() - connected_at >= BACKOFF_MAX_S
            failures = 0 if lasted else failures + 1
            delay_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures, 10))
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _connect(self) -> RawConnection:
        raw = cast(RawConnection, self._pool.make_connection())
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await raw.connect()
        except BaseException:
            await raw.disconnect(nowait=True)
            raise
        return raw

    async def _serve(self, raw: RawConnection) -> None:
        self._connects += 1
        connection = self._connection = ChannelConnection(
            raw,
            on_message=self._deliver,
            on_confirmed=self._take_confirmation,
            on_refused=self._take_refusal,
            ping_every_s=self._ping_every_s,
            answer_within_s=self._answer_within_s,
        )
        self._resubscribing = set(self._held)
        connection.subscribe(self._held)
        self._settle_state()
        try:
            await connection.run(*([self._canary.keep()] if self._canary is not None else []))
        finally:
            self._connection = None
            self._confirmed.clear()

    def _deliver(self, channel: bytes, payload: bytes) -> None:
        held = self._held.get(channel)
        if held is None:
            return  # unsubscribed, and Redis does not know it yet
        try:
            held.handler(payload)
        except (Exception, asyncio.CancelledError):  # no await in it: a CancelledError is the handler's own
            self.callback_errors += 1
            log.exception(SUBSCRIPTIONS_HANDLER_FAILED, channel=channel.decode())

    def _take_control_message(self, payload: bytes) -> None:
        canary = self._canary is not None and self._canary.take(payload)
        if not canary and self._on_control is not None:
            self._on_control(payload)

    def _take_confirmation(self, channels: list[bytes]) -> None:
        wanted = [channel for channel in channels if channel in self._held]
        self._confirmed.update(wanted)
        self._resubscribing.difference_update(wanted)
        if self._on_confirmed is not None and wanted:
            self._tell(self._on_confirmed, frozenset(channel.decode() for channel in wanted))
        for channel in wanted:
            if (held := self._held.get(channel)) is not None:
                held.tell()
        self._settle_state()

    def _take_refusal(self, channel: bytes, text: str) -> None:
        held = self._held.get(channel)
        refusal = f"Redis refuses SUBSCRIBE {channel.decode()}: {text}"
        if held is not None and not held.tell(BrokerUnavailable(refusal)):
            self._degrade(refusal)

    def _settle_state(self) -> None:
        if not self._resubscribing and self._connection is not None:
            self._first_connected.set()
            self._set_state("connected", None)

    def _degrade(self, reason: str) -> None:
        self._set_state("degraded", reason)

    def _set_state(self, status: Literal["connected", "degraded", "closed"], reason: str | None) -> None:
        state = ListenerState(status, reason, self.reconnects)
        if state == self._state:
            return
        self._state = state
        (log.warning if reason else log.info)(_CHANGES[status], reason=reason, reconnects=self.reconnects)
        if self._on_state is not None:
            self._tell(self._on_state, state)

    def _tell(self, callback: Callable[[T], None], news: T) -> None:
        try:
            callback(news)
        except Exception:
            self.callback_errors += 1
            log.exception(SUBSCRIPTIONS_CALLBACK_FAILED, callback=repr(callback))
