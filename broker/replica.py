"""One process of the control plane, put together: what it is made of, in the order in which it has to end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from broker.cancel.census import Census
from broker.cancel.engine import Engine
from broker.cancel.follow import AckFeed
from broker.cancel.live.hub import LiveRuns
from broker.cancel.lookup import Lookup
from broker.cancel.overview import Overviews
from broker.cancel.survey import Survey
from broker.cancel.sweep import Sweep
from broker.cancel.watch import Watches
from broker.errors import BrokerError
from broker.figures import Figures
from broker.ingest.consumer import Consumer, IngestCounts
from broker.observe.events import REDIS_CHECK_FAILED, REDIS_UNSAFE
from broker.observe.log import get_logger
from broker.store.backend import Backend
from broker.store.checks import check_durability
from broker.store.claims import Claims
from broker.store.commands import Commands
from broker.store.counts import Counts
from broker.store.keys import Lifetimes
from broker.store.operations import Operations
from broker.store.probe import Probe
from broker.store.reads import Reads
from broker.store.replication import LONGEST_MS, Replication
from broker.store.roster import Roster
from broker.store.streams import EventStream
from broker.store.subscriptions import Subscriptions
from broker.worker.remote import RemoteWorkers
from broker.worker.remote_http import HttpWorkers
from broker.worker.worker import default_worker_id

log = get_logger("broker.control")


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """Checked values. `timeout_s` is how long Redis may take to answer."""

    url: str
    namespace: str
    timeout_s: float
    sweep: bool
    ingest: bool
    min_replicas: int


class Replica:
    """The parts, connected. Everything that they hold ends with the stack that `opened` was given.

    `remote` has the verbs of workers that speak through this process, `http_workers` the same in HTTP bodies.
    """

    def __init__(self, settings: ReplicaSettings, stack: AsyncExitStack) -> None:
        self._settings = settings
        backend = self._backend = self._connect(stack, "broker", settings.timeout_s)
        self.reads, self.claims, self.roster = Reads(backend), Claims(backend), Roster(backend)
        self.operations = Operations(backend, driver=default_worker_id())
        self.survey = Survey(self.reads, self.operations)
        self.lookup = Lookup(self.reads, self.operations)
        self.feed = AckFeed(backend.keys.ack_channel)
        self.subscriptions = self.feed.subscriptions = Subscriptions(
            settings.url,
            connect_timeout_s=settings.timeout_s,
            on_confirmed=self._confirmed,
            control_channel=backend.keys.control_channel(self.operations.driver),
            publish=backend.commands.publish,
        )
        stack.push_async_callback(self.subscriptions.close)
        self.remote = RemoteWorkers(backend, self.subscriptions)
        stack.callback(self.remote.close)
        self.http_workers = HttpWorkers(self.remote)
        self.probe = Probe(backend, self.subscriptions)
        self.stream = EventStream(backend, consumer=self.operations.driver)
        self.counts, self.ingested = Counts(backend), IngestCounts()

    @classmethod
    async def opened(cls, settings: ReplicaSettings, stack: AsyncExitStack) -> Replica:
        """Raises BrokerUnavailable where Redis cannot be reached."""
        replica = cls(settings, stack)
        await replica.subscriptions.start()
        replica._start(stack)
        return replica

    def _start(self, stack: AsyncExitStack) -> None:
        """What runs behind the calls, now that there is a connection."""
        self.engine = Engine(self.operations, self.reads, self.feed, self._replication(stack))
        self._backend.commands.on_new_server = self.engine.memory.server_changed
        stack.push_async_callback(self.engine.close)
        warning = asyncio.create_task(_warn_of_loss(self._backend.commands), name="broker-check")
        stack.push_async_callback(_end, warning)
        self.live = LiveRuns(self.feed, self.reads, self.operations.now_us)
        stack.push_async_callback(self.live.close)
        self.watches = Watches(self.engine.follow)
        stack.push_async_callback(self.watches.close)
        if self._settings.sweep:
            sweep = Sweep(self.operations, self.reads, self.claims, self.engine, self.counts)
            sweeping = asyncio.create_task(sweep.keep(), name="broker-sweep")
            stack.push_async_callback(_end, sweeping)
        if self._settings.ingest:
            consumer = Consumer.connect(self._settings.url, self._backend, self.stream, self.engine)
            self.ingested = consumer.counts
            consumer.start()
            stack.push_async_callback(consumer.close)
        census = Census(self.reads, self.operations, self.lookup)
        self.overviews = Overviews(self.reads, self.lookup, self.roster, census)
        self.figures = Figures(self._backend, self.subscriptions, self.counts, census, self.stream, self.ingested)

    def _confirmed(self, channels: frozenset[str]) -> None:
        self.feed.missed(channels)
        self.remote.confirmed(channels)

    def _connect(self, stack: AsyncExitStack, client_name: str, timeout_s: float) -> Backend:
        backend = Backend.connect(
            self._settings.url,
            namespace=self._settings.namespace,
            lifetimes=Lifetimes(),
            timeout_s=timeout_s,
            client_name=client_name,
        )
        stack.push_async_callback(backend.close)
        return backend

    def _replication(self, stack: AsyncExitStack) -> Replication | None:
        """A connection of its own: WAIT holds it up."""
        if not self._settings.min_replicas:
            return None
        backend = self._connect(stack, "broker-wait", self._settings.timeout_s + LONGEST_MS / 1000)
        replication = Replication(backend, self._settings.min_replicas)
        stack.push_async_callback(replication.close)
        return replication


async def _warn_of_loss(commands: Commands) -> None:
    """Says once which settings of this Redis lose accepted cancels; delays nobody, and fails nothing."""
    try:
        found = await check_durability(commands)
    except BrokerError as error:
        log.info(REDIS_CHECK_FAILED, error=str(error))
        return
    for finding in found:
        if finding.loses_intents:
            log.warning(REDIS_UNSAFE, check=finding.name, what=finding.what, mend=finding.mend)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
