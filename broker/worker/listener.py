"""The part of a worker that cannot be starved: a thread and an event loop of its own.

Everything that a worker says to Redis and hears from it goes through here, so a body that blocks its own
loop is heard to be stopping, not dead (trap T28). Two ways lead to a cancel, each sufficient alone: the
message on the execution's channel, and the durable intent that is read at every confirmation and whenever
a heartbeat finds that the run's epoch has changed. Both end in `_look`: a message is only a hint to read
the intent now (trap T33).
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from broker.errors import AlreadyClaimed, BrokerUnavailable, CancelCause, ExecutionInOtherRun, InvalidInput
from broker.observe import signals
from broker.observe.log import get_logger
from broker.protocol.messages import CancelMessage, parse_message
from broker.protocol.records import IntentRecord
from broker.protocol.states import Disposition, Scope, Source
from broker.store.backend import Backend
from broker.store.claims import Ack, Claims, Holder, Registration, StartAnswer
from broker.store.keys import Lifetimes
from broker.store.operations import CHUNK
from broker.store.subscriptions import Subscriptions
from broker.worker.heartbeat import Heartbeat
from broker.worker.held import Held

log = get_logger("broker.worker")
T = TypeVar("T")

RECEIVED_AFTER_S = 0.05  # PROTOCOL: `received` is worth a message only where stopping takes longer
FOR_EVER = float("inf")  # an ack is retried until it is accepted (trap T25)
_SOURCE_OF_SCOPE = {
    Scope.RUN: Source.CANCEL_TREE,
    Scope.SUBTREE: Source.CANCEL_SUBTREE,
    Scope.EXECUTION: Source.CANCEL_API,
}


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is made of. Times in seconds; the switches exist to prove each path alone."""

    url: str
    worker_id: str
    agent_node_id: str = ""
    namespace: str = "cb"
    timeout_s: float = 5.0
    heartbeat_s: float = 5.0
    heartbeat_ttl_s: float = 15.0
    canary_s: float = 5.0
    push: bool = True
    poll: bool = True
    reconcile: bool = True


class Listener:
    """Runs `Claims` and `Subscriptions` in a thread of its own; the public methods may be called from any."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.held: dict[str, Held] = {}
        self.fenced = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: Future[None] = Future()
        self._wanted: set[str] = set()
        self._looking = False
        self._acks: defaultdict[str, list[Ack]] = defaultdict(list)
        self._acking: set[asyncio.Task[None]] = set()
        self._causes: dict[str, CancelCause] = {}

    # --- called from any thread -------------------------------------------------------------------

    def start(self) -> Future[None]:
        """Starts the thread; the future is done when the worker is connected and known to the broker."""
        self._thread = threading.Thread(target=self._run, name="broker-listener", daemon=True)
        self._thread.start()
        return self._ready

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs a coroutine on the listener's loop."""
        if self._loop is None or self._loop.is_closed():
            coroutine.close()
            raise BrokerUnavailable("the worker is not running; use it inside its `with` block")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self) -> None:
        """Asks the thread to end: it flushes acks that wait, and says goodbye."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    def join(self, timeout_s: float | None = None) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            else:
                log.exception("listener.failed", worker_id=self.settings.worker_id)
                raise

    async def _main(self) -> None:
        settings = self.settings
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        backend = Backend.connect(
            settings.url, namespace=settings.namespace, lifetimes=Lifetimes(), timeout_s=settings.timeout_s,
            client_name="broker-worker",
        )  # fmt: skip
        self._keys, self._claims = backend.keys, Claims(backend)
        self._heart = Heartbeat(self, self._claims)
        self._subscriptions = Subscriptions(
            settings.url,
            control_channel=backend.keys.control_channel(settings.worker_id),
            publish=backend.commands.publish,
            canary_every_s=settings.canary_s,
            connect_timeout_s=settings.timeout_s,
            on_confirmed=self._on_confirmed,
        )
        try:
            self.holder = Holder(settings.worker_id, await self._claims.new_incarnation(settings.worker_id))
            await self._subscriptions.start()
            await self._heart.beat()
            self._ready.set_result(None)
            await self._live()
        finally:
            await self._subscriptions.close()
            await backend.close()

    async def _live(self) -> None:
        beating = asyncio.create_task(self._heart.keep(), name="broker-heartbeat")
        try:
            await self._stopping.wait()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                await asyncio.gather(*self._acking)
                await self._claims.leave(self.holder)
        except (BrokerUnavailable, TimeoutError):
            log.warning("worker.leave.failed", worker_id=self.settings.worker_id, acks_waiting=len(self._acking))

    # --- holding ----------------------------------------------------------------------------------

    async def hold(self, held: Held) -> StartAnswer:
        """Subscribe, confirm, then start. Held from before SUBSCRIBE, so that nothing in between is missed."""
        if held.execution_id in self.held:
            raise AlreadyClaimed(held.execution_id, self.settings.worker_id)
        self.held[held.execution_id] = held
        try:
            await self._subscribe_and_index(held)
            await signals.reached("worker.confirmed", held.execution_id)
            answer = await self._start(held)
        except BaseException:
            await self._release(held)
            raise
        await signals.reached("worker.started", held.execution_id)
        if answer.code == "claimed":
            self._begin(held, answer.start)
        elif answer.code != "cancelled" or answer.start == 0:
            await self._release(held)
        else:
            held.start = answer.start
        return answer

    async def _subscribe_and_index(self, held: Held) -> None:
        channel = self._keys.cancel_channel(held.run_id, held.execution_id)
        index = asyncio.create_task(self._claims.index(held.run_id, [held.execution_id]))
        try:
            await self._subscriptions.subscribe(channel, self._on_message, self.settings.timeout_s)
        finally:
            elsewhere = await index
        if elsewhere:
            other = elsewhere[held.execution_id]
            raise ExecutionInOtherRun(f"execution {held.execution_id} lives in run {other}; use an id of its own")

    async def _start(self, held: Held) -> StartAnswer:
        """A claim whose holder's heart no longer beats is superseded; a live one stays."""
        what = Registration(
            held.execution_id, "pending", held.parent_execution_id, self.settings.agent_node_id, held.reasoner_id
        )
        answer = await self._claims.start(held.run_id, what, self.holder)
        if answer.code == "already_claimed" and await self._claims.has_died(answer.word):
            answer = await self._claims.start(held.run_id, what, self.holder, supersedes=str(answer.start))
        return answer

    def _begin(self, held: Held, start: int) -> None:
        held.start = start
        if held.early is not None:
            intent, held.early = held.early, None
            self._apply(held, intent)

    async def finish(self, held: Held, status: str, disposition: Disposition, detail: str = "") -> str:
        """Records the end, for ever trying; the claim is given up only when it is written down."""
        held.ended = True
        held.stop_timer()
        try:
            return await self._claims.finish(
                held.run_id, held.execution_id, self.holder, held.start,
                status=status, disposition=disposition, detail=detail, patience_s=FOR_EVER,
            )  # fmt: skip
        finally:
            await self._release(held)

    async def abandon(self, held: Held, holding: Future[StartAnswer]) -> None:
        """The body's side went away while `hold` was under way: what it may have claimed is given back."""
        try:
            answer = await asyncio.wrap_future(holding)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing is held
            log.info("execution.abandoned", execution_id=held.execution_id, error=str(error))
            return
        if answer.start:
            await self.finish(held, "cancelled", Disposition.STOPPED, "cancelled before its first line")

    async def _release(self, held: Held) -> None:
        held.ended = True
        self.held.pop(held.execution_id, None)
        await self._subscriptions.unsubscribe(self._keys.cancel_channel(held.run_id, held.execution_id))

    # --- hearing ----------------------------------------------------------------------------------

    def _on_message(self, payload: bytes) -> None:
        if not self.settings.push:
            return
        try:
            message = parse_message(payload)
        except InvalidInput as error:
            log.warning("message.refused", error=str(error))
            return
        if isinstance(message, CancelMessage):
            self._causes.setdefault(message.cancel_id, _cause_of_message(message))
            self.look([message.execution_id])

    def _on_confirmed(self, channels: frozenset[str]) -> None:
        """A first confirmation is followed by `start`, which reads the intent; a repeated one means a gap."""
        again: list[str] = []
        for held in self.held.values():
            if self._keys.cancel_channel(held.run_id, held.execution_id) in channels:
                if held.confirmed:
                    again.append(held.execution_id)
                held.confirmed = True
        if again:
            self._heart.forget()
        if again and self.settings.reconcile:
            self.look(again)

    def look(self, execution_ids: Iterable[str]) -> None:
        """Reads the intents of these soon; what comes in the meantime joins the same read."""
        self._wanted.update(execution_ids)
        if self._wanted and not self._looking:
            self._looking = True
            task = asyncio.ensure_future(self._look())
            self._acking.add(task)
            task.add_done_callback(self._acking.discard)

    async def _look(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, set()
                await self.read_intents(wanted)
        except BrokerUnavailable as error:
            self._heart.forget()  # so that the next beat reads again
            log.warning("intents.read.failed", error=str(error))
        finally:
            self._looking = False

    async def read_intents(self, execution_ids: Iterable[str]) -> None:
        """Reads and applies the intents of what is held. Raises BrokerUnavailable."""
        by_run: defaultdict[str, list[str]] = defaultdict(list)
        for execution_id in execution_ids:
            if held := self.held.get(execution_id):
                by_run[held.run_id].append(execution_id)
        for run_id, ids in by_run.items():
            found = await self._claims.intents(run_id, ids)
            await self._learn_causes(run_id, {intent.cancel_id for intent in found.values()})
            for execution_id, intent in found.items():
                if held := self.held.get(execution_id):
                    self._apply(held, intent)

    async def _learn_causes(self, run_id: str, cancel_ids: Iterable[str]) -> None:
        for cancel_id in cancel_ids:
            if cancel_id in self._causes:
                continue
            operation = await self._claims.operation(run_id, cancel_id)
            source = _SOURCE_OF_SCOPE[operation.scope] if operation else Source.GATE
            self._causes[cancel_id] = CancelCause(
                cancel_id,
                source,
                operation.reason if operation else None,
                operation.requested_by if operation else None,
                operation.requested_at_us if operation else 0,
            )

    async def cause(self, run_id: str, cancel_id: str) -> CancelCause:
        """Why: from the message where one came, else from the operation."""
        await self._learn_causes(run_id, [cancel_id])
        return self._causes[cancel_id]

    def _apply(self, held: Held, intent: IntentRecord) -> None:
        """Hands a cancel to the body, once; a repeat is acked again and cancels nothing twice (trap T10)."""
        if held.start == 0:
            held.early = intent
            return
        if held.ended or intent.start not in (0, held.start):
            return
        if not held.take(intent):
            if held.received_timer is None:
                self._ack(held, Disposition.RECEIVED)
            return
        held.fire(self._causes[intent.cancel_id])
        if held.received_timer is None:
            loop = asyncio.get_running_loop()
            held.received_timer = loop.call_later(RECEIVED_AFTER_S, self._received, held)

    def _received(self, held: Held) -> None:
        held.received_timer = None
        if not held.ended:
            self._ack(held, Disposition.RECEIVED)

    # --- acks -------------------------------------------------------------------------------------

    def _ack(self, held: Held, disposition: Disposition) -> None:
        waiting = self._acks[held.run_id]
        waiting.append(Ack(held.execution_id, held.start, held.next_seq(), disposition))
        if len(waiting) == 1:
            task = asyncio.ensure_future(self._send_acks(held.run_id))
            self._acking.add(task)
            task.add_done_callback(self._acking.discard)

    async def _send_acks(self, run_id: str) -> None:
        """What was said in the same turn of the loop goes in one script call."""
        acks = self._acks.pop(run_id)
        for at in range(0, len(acks), CHUNK):
            await self._claims.ack(run_id, self.holder, acks[at : at + CHUNK], patience_s=FOR_EVER)

    def fence(self, newest: int) -> None:
        """A newer process has this worker id: whatever is held here is superseded, and is stopped."""
        if self.fenced:
            return
        self.fenced = True
        log.error(
            "worker.fenced", worker_id=self.settings.worker_id, incarnation=self.holder.incarnation, newest=newest
        )
        cause = CancelCause("", "fenced", f"a newer process (incarnation {newest}) runs as {self.settings.worker_id}")
        for held in list(self.held.values()):
            held.fire(cause)


def _cause_of_message(message: CancelMessage) -> CancelCause:
    return CancelCause(message.cancel_id, message.source, message.reason, message.requested_by, message.published_at_us)
