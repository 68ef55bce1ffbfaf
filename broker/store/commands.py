"""The command connection: what waits together goes to Redis in one round trip.

One connection, one flusher. A command that comes while a round trip is under way joins the next one
(group flush, DESIGN section 8: 2.2 times the throughput at 32 at a time), in the order in which it came;
so nothing ever waits for a pool slot (trap T44). All commands given here are idempotent, because a
connection that breaks in mid-flight is replaced and what was not answered is sent again.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from broker.errors import BrokerUnavailable, StoreRefused
from broker.observe.events import COMMANDS_DISCONNECT_FAILED, COMMANDS_FAILED, COMMANDS_NEW_SERVER
from broker.observe.log import get_logger
from broker.store.address import bad_address
from broker.store.channel_connection import reap
from broker.store.scripts import Script

log = get_logger("broker.store")
Command = Sequence[str | bytes | int]
BATCH = 512  # commands in one round trip: bounds what Redis does for one client before it serves another
BACKOFF_S = (0.02, 1.0)


_RUN_ID = re.compile(r"^run_id:(\w+)", re.MULTILINE)


class _Waiting:
    """One command under way; or several, that are answered together."""

    __slots__ = ("command", "deadline", "future", "script", "several")

    def __init__(self, command: Command, script: Script | None, deadline: float, future: asyncio.Future[Any]) -> None:
        self.command = command
        self.script = script
        self.deadline = deadline
        self.future = future
        self.several: Sequence[Command] | None = None

    async def answer(self, connection: Connection) -> Any:
        """Raises ResponseError, the first one, when everything is read."""
        if self.several is None:
            return await connection.read_response(timeout=math.inf)
        answers, refusal = [], None
        for _ in self.several:
            try:
                answers.append(await connection.read_response(timeout=math.inf))
            except ResponseError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return answers


class Commands:
    """Sends commands of one event loop. `timeout_s` bounds each command that does not say otherwise.

    `on_new_server` is called when a new connection has met another server process than the one before (its run
    id differs: restarted, or failed over): what was acknowledged may be lost (trap T8). It is called before any
    command is sent there, must return at once, and is never called where the server has no INFO.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, client_name: str = "broker") -> None:
        self.timeout_s = timeout_s
        try:
            self._pool = ConnectionPool.from_url(
                url,
                decode_responses=True,
                encoding_errors="surrogateescape",  # bytes of others that are no UTF-8 must not look like a dead line
                protocol=2,
                client_name=client_name,
                socket_connect_timeout=timeout_s,
                # None: redis-py waits with asyncio.wait_for, which on 3.11 can lose a cancel, and then close()
                # would wait for ever. Each round trip has its own time-out here.
                socket_timeout=None,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise bad_address(url, error) from error
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._connection: Connection | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False
        self._failures = 0
        self._server_run_id: str | None = None
        self.connects = 0
        self.on_new_server: Callable[[], None] | None = None

    def call(
        self, script: Script, keys: Sequence[str], /, *repeated: str, patience_s: float | None = None, **arguments: str
    ) -> asyncio.Future[Any]:
        """Queues a script call at once; the future has its answer.

        The future raises BrokerUnavailable when Redis has not answered after `patience_s` seconds (default:
        `timeout_s`) and StoreRefused when Redis refused.
        """
        return self._submit(script.command(keys, *repeated, **arguments), script, patience_s).future

    def command(self, *command: str | bytes | int, patience_s: float | None = None) -> asyncio.Future[Any]:
        """Queues one idempotent command at once; same errors as `call`."""
        return self._submit(command, None, patience_s).future

    def several(self, commands: Sequence[Command], *, patience_s: float | None = None) -> asyncio.Future[list[Any]]:
        """Queues a few cheap commands, of which none waits for another; the future has their answers, or an error.

        One future for all of them: of what a SET costs the caller, most is its own one.
        """
        waiting = self._submit(commands[0], None, patience_s)
        waiting.several = commands
        return waiting.future

    async def publish(self, channel: str, payload: bytes) -> int:
        """PUBLISH; answers how many subscribers this node knows of, which is no evidence (trap T2)."""
        return int(await self.command("PUBLISH", channel, payload))

    async def close(self) -> None:
        """Ends the flusher; what still waits is answered with BrokerUnavailable."""
        self._closed = True
        if self._flusher is not None:
            await reap([self._flusher])
        self._fail(self._queue, "the broker's connection was closed")
        self._queue.clear()
        await self._drop_connection()

    def _submit(self, command: Command, script: Script | None, patience_s: float | None) -> _Waiting:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise BrokerUnavailable("the broker's connection was closed")
        if self._flusher is None or self._flusher.done():
            self._flusher = loop.create_task(self._flush_for_ever(), name="broker-commands")
        patience = self.timeout_s if patience_s is None else patience_s
        waiting = _Waiting(command, script, loop.time() + patience, loop.create_future())
        self._queue.append(waiting)
        self._wake.set()
        return waiting

    async def _flush_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._flush_once()

    async def _flush_once(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        batch = [waiting for waiting in batch if not waiting.future.done()]
        if not batch:
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                connection = await self._connected()
                await self._round_trip(connection, batch)
            self._failures = 0
        except asyncio.CancelledError:
            self._fail(batch, "the broker's connection was closed")
            raise
        except Exception as error:  # noqa: BLE001 - a torn connection raises RuntimeError and others, too (T43)
            await self._recover(batch, error)

    async def _connected(self) -> Connection:
        if self._connection is None:
            connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            await connection.connect()  # type: ignore[no-untyped-call]
            self._connection = connection
            self.connects += 1
            await self._recognise(connection)
        return self._connection

    async def _recognise(self, connection: Connection) -> None:
        """Reads which server process this is; one without INFO, or that refuses it, cannot be told from another."""
        await connection.send_command("INFO", "server")
        try:
            found = _RUN_ID.search(str(await connection.read_response(timeout=math.inf)))
        except ResponseError:
            return
        before, self._server_run_id = self._server_run_id, found[1] if found else None
        if before is not None and self._server_run_id not in (None, before):
            log.warning(COMMANDS_NEW_SERVER, before=before, now=self._server_run_id)
            if self.on_new_server is not None:
                self.on_new_server()

    async def _round_trip(self, connection: Connection, batch: list[_Waiting]) -> None:
        missing: list[_Waiting] = []
        packed = b"".join(_pack(connection, one) for waiting in batch for one in waiting.several or (waiting.command,))
        await connection.send_packed_command(packed, check_health=False)
        for waiting in batch:
            try:
                answer = await waiting.answer(connection)
            except NoScriptError:
                missing.append(waiting)
            except ResponseError as error:
                if not waiting.future.done():
                    waiting.future.set_exception(StoreRefused(f"Redis refused {waiting.command[0]!s}: {error}"))
            else:
                if not waiting.future.done():
                    waiting.future.set_result(answer)
        if missing:
            await self._load_scripts(connection, missing)
            await self._round_trip(connection, missing)

    async def _load_scripts(self, connection: Connection, missing: list[_Waiting]) -> None:
        sources = {waiting.script.source for waiting in missing if waiting.script is not None}
        for source in sources:
            await connection.send_command("SCRIPT", "LOAD", source)
            await connection.read_response(timeout=math.inf)

    async def _recover(self, batch: list[_Waiting], error: Exception) -> None:
        """Puts back, in their order, the commands that still have time; the others fail, the queued ones too."""
        await self._drop_connection()
        now = asyncio.get_running_loop().time()
        unanswered = [waiting for waiting in (*batch, *self._queue) if not waiting.future.done()]
        self._fail([w for w in unanswered if w.deadline <= now], f"{type(error).__name__}: {error}")
        self._queue = deque(w for w in unanswered if w.deadline > now)
        self._failures += 1
        first, cap = BACKOFF_S
        pause = min(cap, first * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        log.warning(COMMANDS_FAILED, error=str(error), kind=type(error).__name__, retry_in_s=round(pause, 3))
        await asyncio.sleep(pause)

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.disconnect(nowait=True)
            except (RedisError, OSError) as error:
                log.debug(COMMANDS_DISCONNECT_FAILED, error=str(error))

    @staticmethod
    def _fail(waiting: Sequence[_Waiting] | deque[_Waiting], why: str) -> None:
        for one in waiting:
            if not one.future.done():
                one.future.set_exception(BrokerUnavailable(f"Redis did not answer: {why}"))


def _pack(connection: Connection, command: Command) -> bytes:
    """In C: redis-py's asyncio connections encode each value in Python, which was a third of the time of ingest."""
    try:
        packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type] # its stub means a tuple of one
    except UnicodeEncodeError:  # bytes that were no UTF-8 when they were read: sent back as they were
        packed = b"".join(connection.pack_command(*command))
    return packed
