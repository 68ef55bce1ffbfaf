"""Answers of the server as a test needs them: valid, with a few fields of its own."""

from __future__ import annotations

from typing import Any

from broker.protocol.http.answers import ExecutionAnswer, ReportAnswer, RunAnswer

AT = "2026-03-01T03:00:00.000000Z"
_NO_LAG = {"count": 0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}


def straggler(execution_id: str, **fields: Any) -> dict[str, Any]:
    """One that still runs: told 4.2 s ago, and nothing heard."""
    known = {"depth": 1, "disposition": "asked", "cause": "no_ack", "overdue": False, "published_at": AT}
    return {"execution_id": execution_id, **known, "attempts": 1, "age_ms": 4200, **fields}


def report(*stragglers: dict[str, Any], settled: int = 2, **fields: Any) -> dict[str, Any]:
    """The report of run r; open as long as somebody still runs."""
    running = len(stragglers)
    totals = {
        "executions": settled + running,
        "cancelled": settled + running,
        "skipped": 0,
        "errors": 0,
        "settled": settled,
        "still_running": running,
    }
    return {
        "run_id": "r",
        "cancel_id": "c_1",
        "scope": "run",
        "state": "open" if running else "settled",
        "overdue": False,
        "requested_at": AT,
        "deadline_at": AT,
        "totals": totals,
        "dispositions": {"stopped": settled},
        "still_running": list(stragglers),
        "still_running_truncated": False,
        "ack_lag": {"received": _NO_LAG, "stopped": _NO_LAG},
        **fields,
    }


def report_answer(*stragglers: dict[str, Any], **fields: Any) -> ReportAnswer:
    return ReportAnswer.model_validate(report(*stragglers, **fields))


def cancelled_run(*, still_running: int = 0, **fields: Any) -> dict[str, Any]:
    """What cancel-tree answers for run r with three executions."""
    return {
        "run_id": "r",
        "total_nodes": 3,
        "cancelled_count": 2,
        "skipped_count": 1,
        "error_count": 0,
        "nodes": [],
        "cancelled_at": "2026-03-01T03:00:00Z",
        "cancel_id": "c_1",
        "settled_count": 2 - still_running,
        "still_running_count": still_running,
        "report_endpoint": "/api/v1/runs/r/cancellation?cancel_id=c_1",
        **fields,
    }


def cancelled_execution(**fields: Any) -> dict[str, Any]:
    """What cancel answers for the execution leaf-1 of run r."""
    return {
        "execution_id": "leaf-1",
        "previous_status": "running",
        "status": "cancelled",
        "cancelled_at": "2026-03-01T03:00:00Z",
        "scope": "execution",
        "run_id": "r",
        "cancel_id": "c_1",
        "settled_count": 1,
        "still_running_count": 0,
        "report_endpoint": "/api/v1/runs/r/cancellation?cancel_id=c_1",
        **fields,
    }


def execution(execution_id: str, parent: str | None = None, **fields: Any) -> dict[str, Any]:
    known = {"execution_id": execution_id, "depth": 0, "status": "running"}
    return {**known, **({} if parent is None else {"parent_execution_id": parent}), **fields}


def run_answer(*nodes: dict[str, Any], workflow_status: str = "running") -> RunAnswer:
    listed = [ExecutionAnswer.model_validate(node) for node in nodes]
    return RunAnswer(run_id="r", workflow_status=workflow_status, total_nodes=len(listed), nodes=listed)
