"""Pure: what the broker knows → the bodies of broker.protocol.http."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from starlette.responses import Response

from broker.cancel.nodes import NodeResult
from broker.cancel.report import AckLag, CancelReport, ExecutionReport, Lag
from broker.cancel.survey import Preview
from broker.cancel.views import Cancellations, CancellationView, ExecutionView, RunView
from broker.ingest.dead import DeadEntry, DeadPage
from broker.ingest.publish import Published
from broker.protocol.http import answers as http
from broker.protocol.records import AuditEntry, as_time, rfc3339
from broker.protocol.states import Disposition, Scope
from broker.server.problems import printable

PREFIX = "/api/v1"


def respond(answer: http.Answer, status: int = 200) -> Response:
    """The JSON of an answer, without what is absent."""
    return Response(answer.model_dump_json(exclude_none=True), status, media_type="application/json")


def rfc3339_seconds(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _at(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


# --- cancels ------------------------------------------------------------------------------------------


def report_endpoint(report: CancelReport) -> str:
    """Where the report of this operation is read; an execution without a run has an address of its own."""
    if report.run_id is None:
        return f"{PREFIX}/executions/{quote(report.target or '', safe='')}/cancellation"
    return f"{PREFIX}/runs/{quote(report.run_id, safe='')}/cancellation?cancel_id={report.cancel_id}"


def narrow_answer(report: CancelReport, execution_id: str) -> http.CancelExecutionAnswer:
    """The answer for just one execution, with how many others go on and how to stop them."""
    node = next((node for node in report.nodes if node.execution_id == execution_id), None)
    remaining = report.remaining_active_in_run or None
    warned = remaining is not None and report.run_id is not None
    return http.CancelExecutionAnswer(
        execution_id=execution_id,
        previous_status=node.previous_status if node else "unknown",
        reason=report.reason,
        cancelled_at=rfc3339_seconds(report.requested_at),
        run_id=report.run_id,
        remaining_active_in_run=remaining if warned else None,
        suggested_endpoint=f"{PREFIX}/workflows/{report.run_id}/cancel-tree" if warned else None,
        warning=_warning(execution_id, remaining, report.run_id) if warned else None,
        cancel_id=report.cancel_id,
        settled_count=report.totals.settled,
        still_running_count=report.totals.still_running,
        report_endpoint=report_endpoint(report),
        disposition=report.told.get(execution_id),
    )


def _warning(execution_id: str, remaining: int | None, run_id: str | None) -> str:
    return (
        f"Cancelled only execution {execution_id}; {remaining} other non-terminal execution(s) remain in run {run_id}."
        " Use cancel-tree to stop the whole run."
    )


def tree_answer(report: CancelReport, *, with_nodes: bool) -> http.CancelTreeAnswer:
    """The answer for a run; for a subtree it says so, and its target."""
    subtree = report.scope is Scope.SUBTREE
    skipped = sum(node.skip_reason is not None and node.status != "error" for node in report.nodes)
    errors = sum(node.status == "error" for node in report.nodes)
    return http.CancelTreeAnswer(
        run_id=report.run_id,
        scope="subtree" if subtree else None,
        execution_id=report.target if subtree else None,
        total_nodes=len(report.nodes),
        cancelled_count=len(report.nodes) - skipped - errors,
        skipped_count=skipped,
        error_count=errors,
        nodes=[_node(node, report.told.get(node.execution_id)) for node in report.nodes] if with_nodes else None,
        cancelled_at=rfc3339_seconds(report.requested_at),
        cancel_id=report.cancel_id,
        settled_count=report.totals.settled,
        still_running_count=report.totals.still_running,
        report_endpoint=report_endpoint(report),
    )


def _node(node: NodeResult, disposition: Disposition | None = None) -> http.NodeAnswer:
    return http.NodeAnswer(
        execution_id=node.execution_id,
        agent_node_id=node.agent_node_id,
        reasoner_id=node.reasoner_id,
        workflow_depth=node.depth,
        previous_status=node.previous_status,
        status=node.status,
        skip_reason=node.skip_reason,
        disposition=disposition,
    )


def preview_answer(preview: Preview, *, with_nodes: bool) -> http.PreviewAnswer:
    return http.PreviewAnswer(
        run_id=preview.run_id,
        scope=preview.scope,
        target=preview.target,
        total_nodes=preview.executions,
        would_cancel=preview.would_cancel,
        nodes=[_node(node) for node in preview.nodes] if with_nodes else None,
    )


# --- reports ------------------------------------------------------------------------------------------


def report_answer(report: CancelReport, start: int = 0) -> http.ReportAnswer:
    """`start` is where its page of `still_running` begins."""
    return http.ReportAnswer(
        run_id=report.run_id,
        cancel_id=report.cancel_id,
        scope=report.scope,
        target=report.target,
        state=report.state,
        overdue=report.overdue,
        reason=report.reason,
        requested_by=report.requested_by,
        requested_at=rfc3339(report.requested_at),
        settled_at=_at(report.settled_at),
        deadline_at=rfc3339(report.deadline_at),
        totals=http.TotalsAnswer(
            executions=report.totals.executions,
            cancelled=report.totals.cancelled,
            skipped=report.totals.skipped,
            errors=report.totals.errors,
            settled=report.totals.settled,
            still_running=report.totals.still_running,
        ),
        dispositions=dict(report.dispositions),
        still_running=list(map(_straggler, report.still_running)),
        still_running_truncated=report.still_running_truncated,
        next_cursor=str(start + len(report.still_running)) if report.still_running_truncated else None,
        durability=http.DurabilityAnswer(wanted=report.durability.wanted, reached=report.durability.reached)
        if report.durability
        else None,
        ack_lag=ack_lag_answer(report.ack_lag),
    )


def _straggler(one: ExecutionReport) -> http.StragglerAnswer:
    return http.StragglerAnswer(
        execution_id=one.execution_id,
        depth=one.depth,
        agent_node_id=one.agent_node_id,
        worker_id=one.worker_id,
        disposition=one.disposition,
        cause=one.cause,
        overdue=one.overdue,
        published_at=_at(one.published_at),
        attempts=one.attempts,
        age_ms=_ms(one.age),
        worker_last_seen_ms=None if one.worker_last_seen is None else _ms(one.worker_last_seen),
        detail=one.detail,
    )


def ack_lag_answer(lag: AckLag) -> http.AckLagAnswer:
    return http.AckLagAnswer(received=_lag(lag.received), stopped=_lag(lag.stopped))


def _lag(lag: Lag) -> http.LagAnswer:
    return http.LagAnswer(count=lag.count, p50_ms=lag.p50_ms, p99_ms=lag.p99_ms, max_ms=lag.max_ms)


def cancellations_answer(page: Cancellations) -> http.CancellationsAnswer:
    listed = list(map(cancellation_answer, page.cancellations))
    return http.CancellationsAnswer(
        cancellations=listed,
        outstanding=sum(one.outstanding for one in listed),
        oldest_age_ms=max((one.oldest_age_ms for one in listed), default=0),
        next_cursor=_cursor(page.next_cursor),
    )


def cancellation_answer(view: CancellationView) -> http.CancellationAnswer:
    return http.CancellationAnswer(
        run_id=view.run_id,
        cancel_id=view.cancel_id,
        scope=view.scope,
        target=view.target,
        state=view.state,
        overdue=view.overdue,
        reason=view.reason,
        requested_by=view.requested_by,
        requested_at=rfc3339(view.requested_at),
        deadline_at=rfc3339(view.deadline_at),
        settled_at=_at(view.settled_at),
        outstanding=view.outstanding,
        oldest_age_ms=_ms(view.oldest_age),
        causes=dict(view.causes),
    )


# --- executions and runs ------------------------------------------------------------------------------


def execution_answer(view: ExecutionView) -> http.ExecutionAnswer:
    claim = view.claim
    return http.ExecutionAnswer(
        execution_id=view.execution_id,
        run_id=view.run_id,
        parent_execution_id=view.parent_execution_id,
        agent_node_id=view.agent_node_id,
        reasoner_id=view.reasoner_id,
        depth=view.depth,
        status=view.status,
        status_reason=view.status_reason,
        disposition=view.disposition,
        cause=view.cause,
        outcome=view.outcome,
        detail=view.detail,
        cancel_id=view.cancel_id,
        claim=http.ClaimAnswer(worker_id=claim.worker_id, incarnation=claim.incarnation, start=claim.start)
        if claim
        else None,
        registered_at=_at(view.registered_at),
        started_at=_at(view.started_at),
        published_at=_at(view.published_at),
        received_at=_at(view.received_at),
        settled_at=_at(view.settled_at),
    )


def run_answer(view: RunView) -> http.RunAnswer:
    return http.RunAnswer(
        run_id=view.run_id,
        workflow_status=view.workflow_status,
        total_nodes=view.total_nodes,
        nodes=list(map(execution_answer, view.nodes)),
        next_cursor=_cursor(view.next_cursor),
    )


def _cursor(cursor: int | None) -> str | None:
    return None if cursor is None else str(cursor)


def audit_answer(run_id: str, entries: Sequence[AuditEntry], next_cursor: str | None) -> http.AuditAnswer:
    listed = [
        http.AuditEntryAnswer(
            at=rfc3339(as_time(one.at_us)),
            event=one.event,
            cancel_id=one.cancel_id,
            by=one.by,
            reason=one.reason,
            detail=one.detail or None,
        )
        for one in entries
    ]
    return http.AuditAnswer(run_id=run_id, entries=listed, next_cursor=next_cursor)


def events_answer(published: Sequence[Published]) -> http.EventsAnswer:
    refused = [
        http.RefusedEventAnswer(index=index, error=one.error, message=one.message or "")
        for index, one in enumerate(published)
        if one.error is not None
    ]
    return http.EventsAnswer(accepted=len(published) - len(refused), refused=refused)


def dead_events_answer(page: DeadPage) -> http.DeadEventsAnswer:
    return http.DeadEventsAnswer(events=list(map(_dead_event, page.entries)), next_cursor=page.cursor)


def _dead_event(one: DeadEntry) -> http.DeadEventAnswer:
    """Bytes that were no text show as `?`; a replay sends them as they were."""
    return http.DeadEventAnswer(
        dead_id=one.dead_id,
        source_id=one.source_id,
        refused_at=rfc3339(as_time(int(one.dead_id.split("-")[0]) * 1000)),
        error=one.code,
        message=printable(one.reason),
        event=printable(one.payload),
        cut=one.cut,
    )
