"""Pure: the list of workers → its body, and examples of what workers without Redis are answered."""

from __future__ import annotations

from typing import Any

from broker import Workers, WorkerView
from broker.protocol.http import answers as http

_AT = "2026-01-02T03:04:05.000006Z"
_INTENT: dict[str, Any] = {
    "run_id": "run-1", "execution_id": "leaf-1", "cancel_id": "c_5f0c52a1b7e94d30a6c1", "start": 1, "attempt": 1,
    "force": False, "source": "cancel_tree", "reason": "user", "requested_by": "ops", "published_at": _AT,
    "deadline_at": "2026-01-02T03:04:35.000006Z",
}  # fmt: skip
STARTED: dict[str, Any] = {"code": "claimed", "start": 1}
FINISHED: dict[str, Any] = {"code": "settled"}
ACKED: dict[str, Any] = {"code": "applied"}
BEAT: dict[str, Any] = {"incarnation": 1, "fenced": False, "intents": [_INTENT], "superseded": []}
WORKERS: dict[str, Any] = {
    "workers": [{
        "worker_id": "host-1:4711", "incarnation": 1, "agent_node_id": "gpu-7", "alive": True, "held": 3,
        "last_seen_ms": 900,
    }],
}  # fmt: skip
DEAD: dict[str, Any] = {"worker_id": "host-1:4711", "incarnation": 1}


def workers_answer(page: Workers) -> http.WorkersAnswer:
    return http.WorkersAnswer(workers=list(map(_worker, page.workers)), next_cursor=page.next_cursor)


def _worker(view: WorkerView) -> http.WorkerAnswer:
    return http.WorkerAnswer(
        worker_id=view.worker_id,
        incarnation=view.incarnation,
        agent_node_id=view.agent_node_id,
        alive=view.alive,
        held=view.held,
        last_seen_ms=round(view.age * 1000),
    )
