"""`connect()` and `Broker`: the control plane's side, with no daemon but Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, Self, TypedDict, Unpack

from broker.cancel.live.hub import LiveRuns
from broker.cancel.overview import Overview
from broker.cancel.report import CancelReport
from broker.cancel.survey import Preview
from broker.cancel.views import Cancellations, ExecutionView, RunView
from broker.config import cancel_terms, check_count, check_namespace, check_seconds
from broker.embedded import EmbeddedServer, parse_embedded_url
from broker.errors import InvalidInput, NotFound
from broker.figures import Figures
from broker.ingest.dead import DeadPage, list_dead, replay_dead
from broker.ingest.publish import Published, publish_events
from broker.protocol.names import (
    CANCEL_TEXT_LIMIT,
    check_id,
    check_position,
    check_worker_id,
    clean_text,
    lone_run,
    public_run,
)
from broker.protocol.records import AuditEntry, as_stamp
from broker.protocol.registration import Execution
from broker.protocol.states import Scope
from broker.replica import Replica, ReplicaSettings
from broker.store.checks import Finding, check_server
from broker.store.claims import Registration
from broker.store.keys import NAMESPACE
from broker.store.operations import CancelTerms
from broker.store.roster import Workers
from broker.store.streams import StreamState
from broker.worker.remote import RemoteWorkers
from broker.worker.remote_http import HttpWorkers

PAGE = 1000


class CancelOptions(TypedDict, total=False):
    """What every cancel takes. Times in seconds.

    `wait`: the caller's patience, changes nothing else · `deadline` 30: then `overdue`, redelivery goes on ·
    `grace`: for processes, between SIGTERM and SIGKILL, instead of their worker's (10) ·
    `force_after` off: then the forced step ·
    `give_up` 3600: redelivery ends, still listed open · `order`: bottom_up or bottom_up_barrier ·
    `idempotency_key`: the same key is the same operation · `allow_unknown`: close the gate of what is not
    known yet.
    """

    reason: str | None
    requested_by: str | None
    wait: float | None
    deadline: float
    grace: float | None
    force_after: float | None
    give_up: float
    order: str
    idempotency_key: str | None
    allow_unknown: bool


class Registered(NamedTuple):
    """`registered` counts; `refused` pairs execution id and error code (`run_cancelled` ones are recorded)."""

    registered: int
    refused: tuple[tuple[str, str], ...]


class Broker:
    """Registers executions, cancels them, reports. Made by `connect()`, used as `async with`."""

    def __init__(
        self, url: str, *, namespace: str, timeout: float, sweep: bool, ingest: bool, min_replicas: int
    ) -> None:
        self._url = url
        self._settings = ReplicaSettings(
            url=url,
            namespace=check_namespace(namespace),
            timeout_s=check_seconds(timeout, "timeout", least=0.01),
            sweep=sweep,
            ingest=ingest,
            min_replicas=check_count(min_replicas, "min_replicas"),
        )
        self._stack = AsyncExitStack()

    @property
    def redis_url(self) -> str:
        """The address for other processes; for `embedded://` known once the block is entered."""
        return self._url

    @property
    def degraded(self) -> str | None:
        """Why this process may miss acks at present, None where it hears them; reads are right all the same."""
        return self._replica.subscriptions.degraded

    @property
    def remote(self) -> RemoteWorkers:
        """The verbs of workers that speak through this process."""
        return self._replica.remote

    @property
    def http_workers(self) -> HttpWorkers:
        """The same in HTTP bodies."""
        return self._replica.http_workers

    @property
    def live(self) -> LiveRuns:
        """What happens in a run, as it happens."""
        return self._replica.live

    @property
    def figures(self) -> Figures:
        """What /metrics shows."""
        return self._replica.figures

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._url.startswith("embedded:"):
                self._url = stack.enter_context(EmbeddedServer(*parse_embedded_url(self._url))).url
            self._replica = await Replica.opened(replace(self._settings, url=self._url), stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What this process still drives, another takes over; nothing that was accepted is lost."""
        await self._stack.aclose()

    async def register(self, run_id: str | None, executions: Iterable[Execution]) -> Registered:
        """Records executions, or fills in what was unknown of known ones. `run_id` None: each is on its own.

        Raises InvalidId and InvalidInput before anything is written.
        """
        rows = [_registration(one) for one in executions]
        if run_id is None:
            codes: dict[str, str] = {}
            for row in rows:
                codes.update(await self._replica.claims.register(lone_run(row.execution_id), [row]))
        else:
            codes = await self._replica.claims.register(check_id(run_id, "run_id"), rows)
        refused = tuple((one, code) for one, code in codes.items() if code != "registered")
        return Registered(len(codes) - len(refused), refused)

    async def preview(self, run_id: str) -> Preview:
        """What a cancel of the run would touch; changes nothing. Raises NotFound."""
        return await self._replica.survey.preview(check_id(run_id, "run_id"), Scope.RUN)

    async def preview_subtree(self, execution_id: str) -> Preview:
        """The same for an execution and everything below it."""
        return await self._replica.survey.preview(await self._known_run_of(execution_id), Scope.SUBTREE, execution_id)

    async def preview_execution(self, execution_id: str) -> Preview:
        """The same for just one execution."""
        return await self._replica.survey.preview(await self._known_run_of(execution_id), Scope.EXECUTION, execution_id)

    async def cancel_run(self, run_id: str, **options: Unpack[CancelOptions]) -> CancelReport:
        """Cancels every execution of a run, deepest first. Raises NotFound; see `Engine.cancel`."""
        return await self._cancel(check_id(run_id, "run_id"), Scope.RUN, "", options)

    async def cancel_subtree(self, execution_id: str, **options: Unpack[CancelOptions]) -> CancelReport:
        """Cancels an execution and everything below it. Raises NotFound; see `Engine.cancel`."""
        return await self._cancel(await self._run_of(execution_id, options), Scope.SUBTREE, execution_id, options)

    async def cancel_execution(self, execution_id: str, **options: Unpack[CancelOptions]) -> CancelReport:
        """Cancels just one execution; `remaining_active_in_run` says how many others of its run go on.

        Raises NotFound, and AlreadyTerminal where it has ended.
        """
        return await self._cancel(await self._run_of(execution_id, options), Scope.EXECUTION, execution_id, options)

    async def report(
        self, run_id: str, cancel_id: str | None = None, *, wait: float | None = None, cursor: int = 0
    ) -> CancelReport:
        """What is known of a cancel; without `cancel_id` of the run's widest. Raises NotFound, NoCancellation.

        With `wait` it answers when the cancel is settled, or after these seconds. `still_running` names 1,000,
        those from `cursor` on.
        """
        return await self._report(check_id(run_id, "run_id"), cancel_id, wait, cursor)

    async def report_execution(self, execution_id: str, *, wait: float | None = None, cursor: int = 0) -> CancelReport:
        """The same for the narrow cancel of an execution, which may have no run; else for its run's widest."""
        run_id = await self._known_run_of(execution_id)
        own = await self._replica.reads.narrow_cancel(run_id, execution_id)
        return await self._report(run_id, own, wait, cursor)

    async def _report(self, run_id: str, cancel_id: str | None, wait: float | None, cursor: int) -> CancelReport:
        start, _ = _page(cursor, PAGE)
        if wait is None:
            return await self._replica.survey.report(run_id, cancel_id, cursor=start)
        wait_s, operation = check_seconds(wait, "wait"), await self._replica.survey.operation(run_id, cancel_id)
        settled = await self._replica.watches.settled(run_id, operation.cancel_id, wait_s)
        if settled is not None and start == 0:
            return settled
        return await self._replica.survey.report(run_id, operation.cancel_id, cursor=start)

    async def run_of(self, execution_id: str) -> str | None:
        """The run of an execution, None where it belongs to none. Raises NotFound."""
        return public_run(await self._known_run_of(execution_id))

    async def ready(self) -> Mapping[str, str]:
        """For each thing that this process needs "ok", or what is wrong with it; takes a second or two at most."""
        return await self._replica.probe.check()

    async def execution(self, execution_id: str) -> ExecutionView:
        """One execution with both its axes. Raises NotFound."""
        return await self._replica.lookup.execution(await self._known_run_of(execution_id), execution_id)

    async def run(self, run_id: str, *, cursor: int = 0, limit: int = PAGE) -> RunView:
        """A page of a run, in the order of registration. Raises NotFound."""
        return await self._replica.lookup.run(check_id(run_id, "run_id"), *_page(cursor, limit))

    async def cancellations(self, state: str = "open", *, cursor: int = 0, limit: int = PAGE) -> Cancellations:
        """A page of the operations of all runs, oldest first; `state` is open, settled or all."""
        return await self._replica.lookup.cancellations(state, *_page(cursor, limit))

    async def overview(self) -> Overview:
        """The state of everything at a glance, a few seconds old at most: cheap to ask often."""
        return await self._replica.overviews.take()

    async def workers(self, cursor: str = "", limit: int = PAGE) -> Workers:
        """A page of the worker processes whose heart has beaten within a day and that did not leave, by their ids."""
        return await self._replica.roster.page(cursor, _page(0, limit)[1])

    async def declare_dead(self, worker_id: str, incarnation: int, reason: str | None = None) -> int:
        """Says that this worker process is gone: what it held of cancelled work settles as lost, at the next sweep.

        Answers the counter of the worker id, above that incarnation now. Raises WorkerAlive while its heart
        beats, NotFound where the worker id never had that incarnation.
        """
        why = clean_text(reason, "reason", CANCEL_TEXT_LIMIT) or "no reason given"
        return await self._replica.claims.declare_dead(check_worker_id(worker_id), incarnation, why)

    async def _known_run_of(self, execution_id: str) -> str:
        run_id = await self._replica.claims.run_of(check_id(execution_id, "execution_id"))
        if run_id is None:
            raise NotFound(f"execution {execution_id} not found")
        return run_id

    async def audit(
        self, run_id: str, *, cursor: str | None = None, limit: int | None = None
    ) -> tuple[AuditEntry, ...]:
        """Who asked for what in this run, when and why, and how it ended; oldest first. Raises NotFound.

        About the last 1,000 entries are kept. With `limit` at most so many, those behind `cursor`: the `position`
        of the last entry that was read.
        """
        if limit is not None:
            _page(0, limit)
        after = "" if cursor is None else check_position(cursor, "cursor")
        return await self._replica.survey.audit(check_id(run_id, "run_id"), after, limit)

    async def publish_events(self, events: Sequence[object]) -> tuple[Published, ...]:
        """Appends control-plane events to the stream (protocol/README.md), and answers for each of them."""
        return await publish_events(self._replica.stream, events)

    async def ingest_state(self) -> StreamState:
        """How far the ingest of all replicas is behind, and how many events were refused."""
        return await self._replica.stream.state()

    async def dead_events(self, cursor: str | None = None, limit: int = 100) -> DeadPage:
        """A page of refused events, oldest first. Raises InvalidInput."""
        return await list_dead(self._replica.stream, cursor, limit)

    async def replay_events(self, dead_ids: Sequence[str]) -> dict[str, str]:
        """Puts refused events back on the stream: dead id → new id. Raises InvalidInput, NotFound."""
        return await replay_dead(self._replica.stream, dead_ids)

    async def _run_of(self, execution_id: str, options: CancelOptions) -> str:
        if not options.get("allow_unknown"):
            indexed = await self._replica.claims.indexed_run_of(check_id(execution_id, "execution_id"))
            if indexed is None:
                raise NotFound(f"execution {execution_id} not found")
            return indexed  # the script that closes the gate answers not_found where the run does not know it
        run_id = await self._replica.claims.run_of(check_id(execution_id, "execution_id"))
        if run_id is not None:
            return run_id
        run_id = lone_run(execution_id)
        elsewhere = await self._replica.claims.index(run_id, [execution_id])
        return elsewhere.get(execution_id, run_id)  # a worker is just starting it there, and will meet the cancel

    async def _cancel(self, run_id: str, scope: Scope, target: str, options: CancelOptions) -> CancelReport:
        wait = options.get("wait")
        wait_s = None if wait is None else check_seconds(wait, "wait")
        return await self._replica.engine.cancel(run_id, _terms(scope, target, options), wait_s)


async def check(url: str, timeout_s: float = 5.0, *, namespace: str = NAMESPACE) -> list[Finding]:
    """What is to be known of this Redis, each with how to mend it. Raises BrokerUnavailable, InvalidInput."""
    return await check_server(url, check_seconds(timeout_s, "timeout", least=0.01), check_namespace(namespace))


def connect(
    url: str,
    *,
    namespace: str = NAMESPACE,
    timeout: float = 5.0,
    sweep: bool = True,
    ingest: bool = False,
    min_replicas: int = 0,
) -> Broker:
    """A broker on the Redis at `url` (`redis://`, `rediss://`, `unix://`), or on one of its own: `embedded://`.

    `timeout` is how long Redis may take to answer, in seconds. With `sweep` this process also tells again
    what was told and not settled, and finishes operations whose process died. With `min_replicas` a cancel is
    answered when so many replicas have it, or a second has passed; `report.durability` says what was reached.
    With `ingest` it also takes its share of the event stream. Entering the block raises BrokerUnavailable when
    Redis cannot be reached, MissingExtra when `embedded://` needs an extra.
    """
    return Broker(url, namespace=namespace, timeout=timeout, sweep=sweep, ingest=ingest, min_replicas=min_replicas)


def _terms(scope: Scope, target: str, options: CancelOptions) -> CancelTerms:
    return cancel_terms(
        scope,
        target,
        reason=options.get("reason"),
        requested_by=options.get("requested_by"),
        deadline=options.get("deadline", 30.0),
        grace=options.get("grace"),
        force_after=options.get("force_after"),
        give_up=options.get("give_up", 3600.0),
        order=options.get("order", "bottom_up"),
        idempotency_key=options.get("idempotency_key"),
        allow_unknown=options.get("allow_unknown", False),
    )


def _registration(execution: Execution) -> Registration:
    return Registration(
        check_id(execution.execution_id, "execution_id"),
        execution.status,
        check_id(execution.parent_execution_id, "parent_execution_id") if execution.parent_execution_id else "",
        check_id(execution.agent_node_id, "agent_node_id") if execution.agent_node_id else "",
        execution.reasoner_id or "",
        str(as_stamp(execution.started_at) or "") if execution.started_at else "",
    )


def _page(cursor: int, limit: int) -> tuple[int, int]:
    if cursor < 0 or not 0 < limit <= PAGE:
        raise InvalidInput(f"cursor {cursor!r}, limit {limit!r}: allowed are a cursor from 0 and 1 to {PAGE} at once")
    return cursor, limit
