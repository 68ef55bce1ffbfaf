"""The verbs of workers without Redis in the bodies of the HTTP API: what was asked → the verb → what is answered."""

from __future__ import annotations

from broker.protocol.http import answers as http
from broker.protocol.http.requests import AckRequest, FinishRequest, HeartbeatRequest, StartRequest
from broker.protocol.names import public_run
from broker.protocol.records import as_time, rfc3339
from broker.protocol.states import Disposition
from broker.store.claims import Ack, Registration
from broker.store.hearts import Holder
from broker.worker.long_poll import Beat
from broker.worker.remote import RemoteWorkers
from broker.worker.told import Superseded, ToldIntent


class HttpWorkers:
    """Each method is one request; see `RemoteWorkers` for what it raises."""

    def __init__(self, remote: RemoteWorkers) -> None:
        self._remote = remote

    async def begin(self, worker_id: str, body: HeartbeatRequest) -> HeartbeatRequest:
        """The same heartbeat with an incarnation: a new one, where the body has none."""
        if body.incarnation is not None:
            return body
        incarnation = await self._remote.begin(worker_id, body.agent_node_id or "")
        return body.model_copy(update={"incarnation": incarnation})

    async def beat(self, worker_id: str, body: HeartbeatRequest, *, wait_ms: int) -> http.HeartbeatAnswer:
        """One heartbeat of a process that has begun."""
        holder = Holder(worker_id, body.incarnation or 0)
        held = [(one.run_id, one.execution_id, one.start) for one in body.held]
        return _beat(await self._remote.beat(holder, body.agent_node_id or "", held, wait_ms / 1000))

    async def start(self, execution_id: str, body: StartRequest) -> http.StartedAnswer:
        what = Registration(
            execution_id,
            "pending",
            body.parent_execution_id or "",
            body.agent_node_id or "",
            body.reasoner_id or "",
        )
        started = await self._remote.start(body.run_id, what, Holder(body.worker_id, body.incarnation))
        intent = _intent(started.intent) if started.intent else None
        return http.StartedAnswer(code=started.code, start=started.start, intent=intent)

    async def finish(self, execution_id: str, body: FinishRequest) -> http.CodeAnswer:
        code = await self._remote.finish(
            body.run_id,
            execution_id,
            Holder(body.worker_id, body.incarnation),
            body.start,
            body.status,
            Disposition(body.disposition) if body.disposition else None,
            body.detail or "",
        )
        return http.CodeAnswer(code=code)

    async def ack(self, execution_id: str, body: AckRequest) -> http.CodeAnswer:
        said = Ack(execution_id, body.start, body.seq, body.disposition, body.outcome or "", body.detail or "")
        return http.CodeAnswer(code=await self._remote.ack(body.run_id, body.worker_id, body.incarnation, said))


def _beat(beat: Beat) -> http.HeartbeatAnswer:
    return http.HeartbeatAnswer(
        incarnation=beat.incarnation,
        fenced=beat.fenced,
        intents=list(map(_intent, beat.intents)),
        superseded=list(map(_superseded, beat.superseded)),
    )


def _intent(intent: ToldIntent) -> http.IntentAnswer:
    return http.IntentAnswer(
        run_id=public_run(intent.run_id),
        execution_id=intent.execution_id,
        cancel_id=intent.cancel_id,
        start=intent.start,
        attempt=intent.attempt,
        force=intent.force,
        source=intent.source,
        reason=intent.reason,
        requested_by=intent.requested_by,
        published_at=_at(intent.published_at_us),
        deadline_at=_at(intent.deadline_us),
        grace_ms=None if intent.grace_s is None else round(intent.grace_s * 1000),
    )


def _superseded(one: Superseded) -> http.SupersededAnswer:
    return http.SupersededAnswer(run_id=public_run(one.run_id), execution_id=one.execution_id, start=one.start)


def _at(stamp_us: int | None) -> str | None:
    return None if stamp_us is None else rfc3339(as_time(stamp_us))
