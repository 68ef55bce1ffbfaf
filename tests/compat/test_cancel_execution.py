"""`POST /executions/{id}/cancel` as AgentField clients know it: every text, every field, in its order."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from broker.errors import StoreRefused
from broker.store.reads import Reads
from tests.support.http import register

OURS = ["cancel_id", "settled_count", "still_running_count", "report_endpoint", "disposition"]
PREFIXES = ["/api/v1", "/api/ui/v1"]


def cancel(http: httpx.Client, execution_id: str, body: object = None, prefix: str = "/api/v1") -> httpx.Response:
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post(f"{prefix}/executions/{execution_id}/cancel", content=content)  # no Content-Type at all


def golden(answer: httpx.Response) -> str:
    """The body with what differs each time cut out, up to the additive fields."""
    text = re.sub(r'"cancelled_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', '"cancelled_at":"T"', answer.text)
    return text.partition(',"cancel_id"')[0]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_answer_byte_for_byte(http: httpx.Client, prefix: str) -> None:
    register(
        http,
        "run-1",
        {"execution_id": "a", "status": "In_Progress"},
        {"execution_id": "b", "status": "paused"},
        {"execution_id": "c", "status": "no word"},
        {"execution_id": "d", "status": "completed"},
    )
    answer = cancel(http, "a", {"reason": " user \n", "unknown": [1]}, prefix)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert golden(answer) == (
        '{"execution_id":"a","previous_status":"In_Progress","status":"cancelled","reason":"user","cancelled_at":"T",'
        '"scope":"execution","run_id":"run-1","remaining_active_in_run":2,'
        '"suggested_endpoint":"/api/v1/workflows/run-1/cancel-tree",'
        '"warning":"Cancelled only execution a; 2 other non-terminal execution(s) remain in run run-1.'
        ' Use cancel-tree to stop the whole run."'
    )
    assert list(answer.json())[-len(OURS) :] == OURS


def test_t36_the_three_fields_are_absent_where_nothing_else_goes_on(http: httpx.Client) -> None:
    register(http, "run-1", {"execution_id": "a"}, {"execution_id": "d", "status": "DONE"})
    assert golden(cancel(http, "a")) == (
        '{"execution_id":"a","previous_status":"pending","status":"cancelled","cancelled_at":"T","scope":"execution",'
        '"run_id":"run-1"'
    )


def test_an_execution_without_a_run_names_none(http: httpx.Client) -> None:
    http.post("/api/v1/executions", json={"execution_id": "lone", "status": "running"}).raise_for_status()
    answer = cancel(http, "lone")
    assert golden(answer) == (
        '{"execution_id":"lone","previous_status":"running","status":"cancelled","cancelled_at":"T","scope":"execution"'
    )
    report = http.get(answer.json()["report_endpoint"]).json()
    assert (report["cancel_id"], report["target"]) == (answer.json()["cancel_id"], "lone")


@pytest.mark.parametrize("body", [None, b"", b" \n", b"{}", b'{"reason":""}', b'{"reason":"  "}', b'{"reason":null}'])
def test_a_blank_reason_is_none(http: httpx.Client, body: bytes | None) -> None:
    register(http, "run-1", {"execution_id": "a"})
    answer = cancel(http, "a", body)
    assert answer.status_code == 200
    assert "reason" not in answer.json()


BAD_BODIES = [b"[1]", b'"text"', b"null", b"1", b"{]", b'{"reason":1}', b'{"reason":["a"]}', b"\xff\xfe", b"[" * 9999]


@pytest.mark.parametrize("body", [*BAD_BODIES, json.dumps({"reason": "x" * 501}).encode()])
def test_a_malformed_body_is_refused_before_the_look_up(http: httpx.Client, body: bytes) -> None:
    answer = cancel(http, "unknown", body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith("invalid request body: ")


@pytest.mark.parametrize("blank", ["", "%20", "%09%0A", "%C2%A0"])
def test_a_blank_id_is_refused_before_the_body(http: httpx.Client, blank: str) -> None:
    answer = cancel(http, blank, b"{]")
    assert (answer.status_code, answer.text) == (400, '{"error":"execution_id is required"}')


@pytest.mark.parametrize(
    ("encoded", "shown"),
    [("nope", "nope"), ("a%2Fb", "a/b"), ("..%2f..", "../.."), ("%00", "\x00"), ("%E2%98%83", "☃"), ("%FF", "\ufffd"),
     ("%7B*%7D", "{*}"), ("x" * 10_000, "x" * 10_000), ("%F0%9F%92%A5" * 2_000, "💥" * 2_000), ("%252F", "%2F")],
    ids=["unknown", "slash", "dots", "zero", "unicode", "no utf-8", "braces", "long", "long unicode", "twice"],
)  # fmt: skip
def test_what_cannot_exist_is_not_found(http: httpx.Client, encoded: str, shown: str) -> None:
    answer = cancel(http, encoded)
    assert (answer.status_code, answer.json()) == (404, {"error": f"execution {shown} not found"})


@pytest.mark.parametrize("status", ["succeeded", "Completed", "FAILED", "canceled", "timed_out"])
def test_t13_an_execution_that_has_ended_is_a_conflict(http: httpx.Client, status: str) -> None:
    register(http, "run-1", {"execution_id": "a", "status": status})
    answer = cancel(http, "a")
    assert answer.status_code == 409
    assert answer.text == f'{{"error":"invalid_state","message":"execution is in terminal state \'{status}\'"}}'


@pytest.mark.parametrize("first", ["/api/v1/executions/a/cancel", "/api/v1/workflows/run-1/cancel-tree"])
def test_a_repeat_is_a_conflict(http: httpx.Client, first: str) -> None:
    register(http, "run-1", {"execution_id": "a", "status": "running"})
    assert http.post(first).status_code == 200
    again = cancel(http, "a")
    assert again.status_code == 409
    assert again.text == '{"error":"invalid_state","message":"execution is in terminal state \'cancelled\'"}'


def test_a_repeat_with_the_same_key_is_the_same_operation(http: httpx.Client) -> None:
    register(http, "run-1", {"execution_id": "a", "status": "running"})
    first, again = (http.post("/api/v1/executions/a/cancel", headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["cancel_id"] == again.json()["cancel_id"]


def test_counting_is_advice(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Reads, run_id: str) -> None:
        raise StoreRefused("injected")

    register(http, "run-1", {"execution_id": "a", "status": "running"}, {"execution_id": "b"})
    monkeypatch.setattr(Reads, "run_state", fail)
    answer = cancel(http, "a")
    assert answer.status_code == 200
    assert {"remaining_active_in_run", "suggested_endpoint", "warning"}.isdisjoint(answer.json())


@pytest.mark.parametrize(
    ("verb", "text"),
    [("run_of", "failed to look up execution"), ("open", "failed to cancel execution")],
)
def test_a_storage_failure_says_where(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, verb: str, text: str
) -> None:
    from broker.store.claims import Claims
    from broker.store.operations import Operations

    async def fail(*_: object) -> None:
        raise StoreRefused("injected")

    register(http, "run-1", {"execution_id": "a", "status": "running"})
    monkeypatch.setattr(Claims if verb == "run_of" else Operations, verb, fail)
    answer = cancel(http, "a")
    assert (answer.status_code, answer.text) == (500, f'{{"error":"{text}"}}')
