"""The examples of the OpenAPI document, and the answers that each operation can give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.protocol.http.answers import ErrorAnswer
from broker.protocol.http.requests import CancelRequest
from broker.server.cancelling import query_parameters

Example = dict[str, Any]

_NODE: Example = {
    "execution_id": "leaf-1", "agent_node_id": "gpu-7", "workflow_depth": 1, "previous_status": "running",
    "status": "cancelled", "disposition": "stopped",
}  # fmt: skip
_OURS: Example = {
    "cancel_id": "c_5f0c52a1b7e94d30a6c1", "settled_count": 2, "still_running_count": 0,
    "report_endpoint": "/api/v1/runs/run-1/cancellation?cancel_id=c_5f0c52a1b7e94d30a6c1",
}  # fmt: skip
_COUNTS: Example = {"total_nodes": 1, "cancelled_count": 1, "skipped_count": 0, "error_count": 0, "nodes": [_NODE]}
_AT = "2026-01-02T03:04:05.000006Z"

NARROW: Example = {
    "execution_id": "leaf-1", "previous_status": "running", "status": "cancelled", "reason": "user",
    "cancelled_at": "2026-01-02T03:04:05Z", "scope": "execution", "run_id": "run-1", "remaining_active_in_run": 2,
    "suggested_endpoint": "/api/v1/workflows/run-1/cancel-tree",
    "warning": "Cancelled only execution leaf-1; 2 other non-terminal execution(s) remain in run run-1."
    " Use cancel-tree to stop the whole run.",
    **_OURS,
}  # fmt: skip
TREE: Example = {"run_id": "run-1", **_COUNTS, "cancelled_at": "2026-01-02T03:04:05Z", **_OURS}
SUBTREE: Example = {"run_id": "run-1", "scope": "subtree", "execution_id": "leaf-1", **{k: TREE[k] for k in TREE}}
REPORT: Example = {
    "run_id": "run-1", "cancel_id": _OURS["cancel_id"], "scope": "run", "state": "open", "overdue": False,
    "reason": "user", "requested_by": "ops", "requested_at": _AT, "deadline_at": "2026-01-02T03:04:35.000006Z",
    "totals": {"executions": 3, "cancelled": 3, "skipped": 0, "errors": 0, "settled": 2, "still_running": 1},
    "dispositions": {"stopped": 2, "received": 1},
    "still_running": [{
        "execution_id": "leaf-1", "depth": 1, "agent_node_id": "gpu-7", "worker_id": "host-1:4711",
        "disposition": "received", "cause": "stopping", "overdue": False, "published_at": _AT, "attempts": 1,
        "age_ms": 1200, "worker_last_seen_ms": 900,
    }],
    "still_running_truncated": False,
    "ack_lag": {"received": {"count": 3, "p50_ms": 0.9, "p99_ms": 2.1, "max_ms": 2.1},
                "stopped": {"count": 2, "p50_ms": 3.0, "p99_ms": 4.2, "max_ms": 4.2}},
}  # fmt: skip
CANCELLATIONS: Example = {
    "cancellations": [{
        "run_id": "run-1", "cancel_id": _OURS["cancel_id"], "scope": "run", "state": "open", "overdue": False,
        "reason": "user", "requested_by": "ops", "requested_at": _AT, "deadline_at": "2026-01-02T03:04:35.000006Z",
        "outstanding": 1, "oldest_age_ms": 1200, "causes": {"stopping": 1},
    }],
    "outstanding": 1, "oldest_age_ms": 1200,
}  # fmt: skip
PREVIEW: Example = {
    "run_id": "run-1", "scope": "run", "total_nodes": 1, "would_cancel": 1,
    "nodes": [{"execution_id": "leaf-1", "workflow_depth": 1, "previous_status": "running", "status": "running"}],
}  # fmt: skip
EXECUTION: Example = {
    "execution_id": "leaf-1", "run_id": "run-1", "parent_execution_id": "root", "agent_node_id": "gpu-7", "depth": 1,
    "status": "cancelled", "status_reason": "user", "disposition": "stopped", "outcome": "cancelled",
    "cancel_id": _OURS["cancel_id"], "registered_at": _AT, "published_at": _AT, "settled_at": _AT,
}  # fmt: skip
RUN: Example = {"run_id": "run-1", "workflow_status": "cancelled", "total_nodes": 1, "nodes": [EXECUTION]}
REGISTERED: Example = {"registered": 2, "refused": [{"execution_id": "leaf-3", "error": "run_cancelled"}]}
REGISTERED_ONE: Example = {"registered": 1, "refused": []}
AUDIT: Example = {
    "run_id": "run-1",
    "entries": [{"at": _AT, "event": "requested", "cancel_id": _OURS["cancel_id"], "by": "ops", "reason": "user"}],
}
EVENT: Example = {"v": 1, "type": "execution.created", "run_id": "run-1", "execution_id": "leaf-1"}
EVENTS: Example = {"accepted": 1, "refused": [{"index": 1, "error": "invalid_input", "message": "event is not JSON"}]}
DEAD_EVENTS: Example = {
    "events": [{
        "dead_id": "1795342312489-0", "source_id": "1795342312480-0", "refused_at": _AT, "error": "invalid_id",
        "message": "execution_id 'a|b': allowed are 1 to 200 of A-Z a-z 0-9 . _ : @ -",
        "event": '{"v":1,"type":"execution.created","execution_id":"a|b"}', "cut": False,
    }],
}  # fmt: skip
REPLAYED: Example = {
    "replayed": [{"dead_id": "1795342312489-0", "entry_id": "1795342390000-0"}],
    "refused": [{"dead_id": "1-0", "error": "not_found", "message": "dead event 1-0 not found"}],
}
LIVE: Example = {"status": "ok", "checks": {}}
READY: Example = {"status": "ok", "checks": {"redis": "ok", "scripts": "ok", "listener": "ok"}}

NARROW_ERRORS = {
    400: {"error": "execution_id is required"},
    404: {"error": "execution leaf-9 not found"},
    409: {"error": "invalid_state", "message": "execution is in terminal state 'succeeded'"},
    500: {"error": "failed to look up execution"},
}
TREE_ERRORS = {
    400: {"error": "workflowId is required"},
    404: {"error": "run run-9 not found"},
    409: {"error": "idempotency_key_reused", "message": "idempotency key 'k-1' belongs to cancel c_1"},
    500: {"error": "failed to load run"},
}
_ERRORS: dict[int, tuple[str, Example]] = {
    400: ("What was given cannot be used", {"error": "invalid_input", "message": "limit 0: should be at least 1"}),
    401: ("No token, or an unknown one", {"error": "unauthorized", "message": "this token is not known here"}),
    403: ("The token lacks the scope", {"error": "forbidden", "message": "token ci has the scopes observe"}),
    404: ("There is none", {"error": "not_found", "message": "run run-9 not found"}),
    409: ("The present state does not allow it", {"error": "conflict", "message": "the state does not allow it"}),
    413: ("The body is too large", {"error": "body_too_large", "message": "allowed are up to 8388608 bytes"}),
    415: ("The body does not say it is JSON", {"error": "unsupported_media_type", "message": "Content-Type 'a/b'"}),
    500: ("Unexpected", {"error": "broker_error", "message": "unexpected error; the server's log says which"}),
    503: ("Redis is away; try again", {"error": "broker_unavailable", "message": "Redis did not answer"}),
}
_ALWAYS = (401, 403, 500, 503)

KEY: Example = {
    "name": "Idempotency-Key", "in": "header", "required": False, "description": "the same key is the same operation",
    "schema": {"type": "string", "maxLength": 200, "minLength": 1},
}  # fmt: skip
CANCEL: dict[str, Any] = {
    "parameters": [*query_parameters(), KEY],
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": CancelRequest.model_json_schema(), "example": {"reason": "user"}}},
    },
}  # fmt: skip
"""Query and body of the compatible pair, which parses both itself."""

_ROOT: Example = {"execution_id": "root", "status": "running"}
_LEAF: Example = {"execution_id": "leaf-1", "parent_execution_id": "root", "agent_node_id": "gpu-7"}


def _body(example: Example) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"example": example}}}}


REGISTER_BODY = _body({"executions": [_ROOT, _LEAF]})
LONE_BODY = _body({"execution_id": "nightly", "status": "running"})


EVENTS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}, "example": [EVENT]},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


def documented(
    model: type[Any], example: Example, errors: Iterable[int] | dict[int, Example] = ()
) -> dict[int | str, dict[str, Any]]:
    """`responses` of an operation: the answer with its example, and the errors it can give."""
    own = errors if isinstance(errors, dict) else {status: _ERRORS[status][1] for status in errors}
    every = {**{status: _ERRORS[status][1] for status in _ALWAYS}, **own} if errors else {}
    answers: dict[int | str, dict[str, Any]] = {
        status: {
            "model": ErrorAnswer,
            "description": _ERRORS[status][0],
            "content": {"application/json": {"example": example_of}},
        }
        for status, example_of in sorted(every.items())
    }
    return {
        200: {"model": model, "description": "Done", "content": {"application/json": {"example": example}}}
    } | answers
