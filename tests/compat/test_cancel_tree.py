"""`POST /workflows/{run}/cancel-tree` as AgentField clients know it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from broker.cancel.tree import Tree
from broker.errors import StoreRefused
from broker.store.operations import CHUNK, Operations, Told
from tests.support.http import register

PREFIXES = ["/api/v1", "/api/ui/v1"]


def tree(http: httpx.Client, run_id: str, query: str = "", **options: Any) -> httpx.Response:
    return http.post(f"/api/v1/workflows/{run_id}/cancel-tree{query}", **options)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_answer_byte_for_byte(http: httpx.Client, prefix: str) -> None:
    register(
        http,
        "run-1",
        {"execution_id": "root", "status": "In_Progress", "started_at": "2026-01-01T00:00:00Z"},
        {"execution_id": "done", "parent_execution_id": "root", "status": "Completed",
         "started_at": "2026-01-01T00:00:01Z", "reasoner_id": "plan"},
        {"execution_id": "leaf", "parent_execution_id": "root", "agent_node_id": "gpu-7",
         "started_at": "2026-01-01T00:00:02Z"},
        {"execution_id": "orphan", "parent_execution_id": "missing", "status": "running",
         "started_at": "2026-01-01T00:00:03Z"},
    )  # fmt: skip
    answer = http.post(f"{prefix}/workflows/run-1/cancel-tree", content=b'{"reason":"user clicked cancel"}')
    assert answer.status_code == 200
    text = re.sub(r'"cancelled_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', '"cancelled_at":"T"', answer.text)
    text = re.sub(r',"disposition":"\w+"', "", text)
    assert text.partition(',"cancel_id"')[0] == (
        '{"run_id":"run-1","total_nodes":4,"cancelled_count":3,"skipped_count":1,"error_count":0,"nodes":['
        '{"execution_id":"leaf","agent_node_id":"gpu-7","workflow_depth":1,"previous_status":"pending",'
        '"status":"cancelled"},'
        '{"execution_id":"done","reasoner_id":"plan","workflow_depth":1,"previous_status":"Completed",'
        '"status":"Completed","skip_reason":"terminal"},'
        '{"execution_id":"orphan","workflow_depth":0,"previous_status":"running","status":"cancelled"},'
        '{"execution_id":"root","workflow_depth":0,"previous_status":"In_Progress","status":"cancelled"}'
        '],"cancelled_at":"T"'
    )
    assert list(answer.json())[-4:] == ["cancel_id", "settled_count", "still_running_count", "report_endpoint"]
    assert [node.get("disposition") for node in answer.json()["nodes"]] == ["never_started", None, "asked", "asked"]


def test_a_repeat_finds_every_node_terminal(http: httpx.Client) -> None:
    register(http, "run-1", {"execution_id": "a", "status": "running"}, {"execution_id": "b", "status": "done"})
    first = tree(http, "run-1").json()
    again = tree(http, "run-1")
    assert again.status_code == 200
    found = {node["execution_id"]: (node["previous_status"], node["status"], node["skip_reason"])
             for node in again.json()["nodes"]}  # fmt: skip
    assert found == {"a": ("cancelled", "cancelled", "terminal"), "b": ("done", "done", "terminal")}
    assert (again.json()["cancelled_count"], again.json()["skipped_count"]) == (0, 2)
    assert again.json()["cancel_id"] == first["cancel_id"]


def test_t37_behind_a_barrier_the_gate_has_decided_for_those_to_come(http: httpx.Client) -> None:
    register(
        http,
        "run-1",
        {"execution_id": "root", "status": "running"},
        {"execution_id": "leaf", "parent_execution_id": "root", "status": "running"},
    )
    first = tree(http, "run-1", "?order=bottom_up_barrier").json()
    assert [(node["execution_id"], node["status"]) for node in first["nodes"]] == [
        ("leaf", "cancelled"),
        ("root", "cancelled"),
    ]
    assert (first["total_nodes"], first["cancelled_count"], first["still_running_count"]) == (2, 2, 2)
    again = tree(http, "run-1").json()
    assert {node["previous_status"] for node in again["nodes"]} == {"cancelled"}
    assert http.get("/api/v1/runs/run-1").json()["workflow_status"] == "cancelled"


def test_a_run_where_all_is_terminal_is_closed_all_the_same(http: httpx.Client) -> None:
    register(http, "run-1", {"execution_id": "a", "status": "succeeded"})
    answer = tree(http, "run-1")
    assert (answer.status_code, answer.json()["skipped_count"]) == (200, 1)
    late = http.post("/api/v1/runs/run-1/executions", json={"executions": [{"execution_id": "late"}]})
    assert late.json() == {"registered": 0, "refused": [{"execution_id": "late", "error": "run_cancelled"}]}


@pytest.mark.parametrize(
    ("parents", "depths"),
    [({"a": "a"}, {"a": 1}), ({"a": "b", "b": "a"}, {"a": 2, "b": 1}), ({"a": "gone", "b": "a"}, {"a": 0, "b": 1})],
    ids=["self", "cycle", "orphan"],
)
def test_depths_of_broken_trees(http: httpx.Client, parents: dict[str, str], depths: dict[str, int]) -> None:
    register(http, "run-1", *({"execution_id": one, "parent_execution_id": up} for one, up in parents.items()))
    nodes = tree(http, "run-1").json()["nodes"]
    assert {node["execution_id"]: node["workflow_depth"] for node in nodes} == depths


@pytest.mark.parametrize("path", ["workflows/cancel-tree", "workflows//cancel-tree", "workflows/%20/cancel-tree"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_blank_run_is_refused_before_the_body(http: httpx.Client, prefix: str, path: str) -> None:
    answer = http.post(f"{prefix}/{path}", content=b"{]")
    assert (answer.status_code, answer.text) == (400, '{"error":"workflowId is required"}')


@pytest.mark.parametrize("body", [b"[]", b"{]", b'{"reason":{}}'])
def test_a_malformed_body_is_refused_before_the_look_up(http: httpx.Client, body: bytes) -> None:
    answer = tree(http, "unknown", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("invalid request body: ")


@pytest.mark.parametrize(("encoded", "shown"), [("nope", "nope"), ("%40a", "@a"), ("a%2Fb", "a/b"), ("%00", "\x00")])
def test_an_unknown_run_is_not_found(http: httpx.Client, encoded: str, shown: str) -> None:
    answer = tree(http, encoded)
    assert (answer.status_code, answer.json()) == (404, {"error": f"run {shown} not found"})


def test_a_chunk_that_fails_is_errors_and_the_walk_goes_on(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    began = {"status": "running", "started_at": "2026-01-01T00:00:00Z"}
    register(http, "run-1", *({"execution_id": f"e{n:03}", **began} for n in range(CHUNK + 5)))
    publish, failed = Operations.publish, False

    async def fail_once(self: Operations, run_id: str, operation: Any, chunk: Any) -> tuple[str, list[Told]]:
        nonlocal failed
        if not failed:
            failed = True
            raise StoreRefused("Redis refused EVALSHA: injected")
        return await publish(self, run_id, operation, chunk)

    monkeypatch.setattr(Operations, "publish", fail_once)
    answer = tree(http, "run-1")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["total_nodes"], body["cancelled_count"], body["error_count"]) == (CHUNK + 5, 5, CHUNK)
    wrong = [node for node in body["nodes"] if node["status"] == "error"]
    assert {node["skip_reason"] for node in wrong} == {"Redis refused EVALSHA: injected"}
    order = [node["execution_id"] for node in body["nodes"]]
    assert order == sorted(order), "the order of the walk, whichever chunk was answered first"


@pytest.mark.parametrize(("part", "verb"), [(Operations, "open"), (Tree, "outline")])
def test_a_storage_failure_at_load(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, part: type[object], verb: str
) -> None:
    async def fail(*_: object) -> None:
        raise StoreRefused("injected")

    register(http, "run-1", {"execution_id": "a"})
    monkeypatch.setattr(part, verb, fail)
    answer = tree(http, "run-1")
    assert (answer.status_code, answer.text) == (500, '{"error":"failed to load run"}')
