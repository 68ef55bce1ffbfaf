"""API.md row by row, over a real socket: what each endpoint of ours answers, and how it says no."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
import redis

from tests.support.http import Server, register, serving
from tests.support.wait import wait_until_sync

ROOT = {"execution_id": "root", "status": "running", "agent_node_id": "gpu-7", "reasoner_id": "plan"}
LEAF = {"execution_id": "leaf", "parent_execution_id": "root", "started_at": "2026-01-01T00:00:00Z"}


def cancel(http: httpx.Client, path: str = "workflows/run-1/cancel-tree", **options: Any) -> dict[str, Any]:
    answer = http.post(f"/api/v1/{path}", **options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_register_always_answers_200_and_lists_what_it_refused(http: httpx.Client) -> None:
    given = [
        ROOT,
        {"execution_id": "two words"},
        {"execution_id": "naive", "started_at": "2026-01-01T00:00:00"},
        {"execution_id": "self", "parent_execution_id": "self"},
        {"execution_id": "loud", "status": "x" * 65},
    ]
    answer = http.post("/api/v1/runs/run-1/executions", json={"executions": given})
    assert (answer.status_code, answer.json()) == (200, {
        "registered": 2,
        "refused": [{"execution_id": "two words", "error": "invalid_id"},
                    {"execution_id": "naive", "error": "invalid_input"},
                    {"execution_id": "loud", "error": "invalid_input"}],
    })  # fmt: skip
    cancel(http)
    late = http.post("/api/v1/runs/run-1/executions", json={"executions": [{"execution_id": "late"}]}).json()
    assert late == {"registered": 0, "refused": [{"execution_id": "late", "error": "run_cancelled"}]}
    assert http.get("/api/v1/executions/late").json()["status"] == "cancelled"


def test_an_execution_says_both_its_axes(http: httpx.Client) -> None:
    register(http, "run-1", ROOT, LEAF)
    before = http.get("/api/v1/executions/leaf").json()
    assert list(before) == [
        "execution_id", "run_id", "parent_execution_id", "depth", "status", "registered_at", "started_at",
    ]  # fmt: skip
    assert (before["depth"], before["started_at"]) == (1, "2026-01-01T00:00:00.000000Z")
    done = cancel(http, json={"reason": "user"})
    after = http.get("/api/v1/executions/root").json()
    assert (after["status"], after["status_reason"], after["disposition"]) == ("cancelled", "user", "asked")
    assert (after["cause"], after["cancel_id"]) == ("no_worker", done["cancel_id"])


def test_a_run_is_paged(http: httpx.Client) -> None:
    register(http, "run-1", *({"execution_id": f"e{n}"} for n in range(5)))
    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = http.get("/api/v1/runs/run-1", params=query).json()
        assert (page["run_id"], page["workflow_status"], page["total_nodes"]) == ("run-1", "running", 5)
        seen += [node["execution_id"] for node in page["nodes"]]
        if "next_cursor" not in page:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == [f"e{n}" for n in range(5)]


def test_a_subtree_is_like_a_tree_and_says_its_scope(http: httpx.Client) -> None:
    register(http, "run-1", ROOT, LEAF)
    done = cancel(http, "executions/leaf/cancel-subtree", json={"reason": "user"})
    assert list(done)[:3] == ["run_id", "scope", "execution_id"]
    assert (done["scope"], done["execution_id"], done["total_nodes"]) == ("subtree", "leaf", 1)
    assert http.get("/api/v1/executions/root").json()["status"] == "running"
    bare = cancel(http, "executions/leaf/cancel-subtree?nodes=0")
    assert "nodes" not in bare
    assert bare["cancel_id"] == done["cancel_id"]


def test_the_report_has_its_fields(http: httpx.Client) -> None:
    register(http, "run-1", ROOT, LEAF)
    assert http.get("/api/v1/runs/run-1/cancellation").json()["error"] == "no_cancellation"
    done = cancel(http, json={"reason": "user"})
    report = http.get(done["report_endpoint"]).json()
    assert list(report) == [
        "run_id", "cancel_id", "scope", "state", "overdue", "reason", "requested_at", "deadline_at", "totals",
        "dispositions", "still_running", "still_running_truncated", "ack_lag",
    ]  # fmt: skip
    assert report["totals"] == {
        "executions": 2, "cancelled": 2, "skipped": 0, "errors": 0, "settled": 1, "still_running": 1,
    }  # fmt: skip
    (straggler,) = report["still_running"]
    assert (straggler["execution_id"], straggler["cause"], straggler["attempts"]) == ("root", "no_worker", 1)
    assert list(report["ack_lag"]["stopped"]) == ["count", "p50_ms", "p99_ms", "max_ms"]
    listed = http.get("/api/v1/cancellations").json()
    assert listed["outstanding"] == 1
    assert listed["cancellations"][0]["causes"] == {"no_worker": 1}


def test_t34_a_preview_changes_nothing(http: httpx.Client) -> None:
    register(http, "run-1", ROOT, LEAF)
    for path, scope, total in [("runs/run-1/preview", "run", 2), ("executions/leaf/preview", "subtree", 1),
                               ("executions/root/preview?scope=execution", "execution", 1)]:  # fmt: skip
        preview = http.get(f"/api/v1/{path}").json()
        assert (preview["scope"], preview["total_nodes"], preview["would_cancel"]) == (scope, total, total)
    assert http.get("/api/v1/runs/run-1").json()["workflow_status"] == "running"


def test_a_caller_that_waits_is_answered_when_it_is_settled_or_when_the_time_is_over(http: httpx.Client) -> None:
    register(http, "run-1", {"execution_id": "a"})
    register(http, "run-2", {"execution_id": "b", "status": "running"})
    assert cancel(http, "workflows/run-1/cancel-tree?wait_ms=60000")["still_running_count"] == 0
    waited = cancel(http, "workflows/run-2/cancel-tree?wait_ms=50")
    assert (waited["still_running_count"], waited["total_nodes"], waited["cancelled_count"]) == (1, 1, 1)
    report = http.get("/api/v1/runs/run-1/cancellation?wait_ms=60000").json()
    assert report["state"] == "settled"
    assert http.get("/api/v1/runs/run-2/cancellation?wait_ms=50").json()["state"] == "open"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/runs/nope", 404, "not_found"),
        ("GET", "/api/v1/runs/nope/cancellation", 404, "not_found"),
        ("GET", "/api/v1/runs/nope/preview", 404, "not_found"),
        ("GET", "/api/v1/executions/nope", 404, "not_found"),
        ("GET", "/api/v1/executions/nope/cancellation", 404, "not_found"),
        ("POST", "/api/v1/executions/nope/cancel-subtree", 404, "not_found"),
        ("GET", "/api/v1/runs/a%2Fb", 400, "invalid_id"),
        ("GET", "/api/v1/executions/%00", 400, "invalid_id"),
        ("GET", "/api/v1/executions/" + "x" * 10_000, 400, "invalid_id"),
        ("POST", "/api/v1/executions/%7Bx%7D/cancel-subtree", 400, "invalid_id"),
        ("GET", "/api/v1/runs/run-1?cursor=x", 400, "invalid_input"),
        ("GET", "/api/v1/runs/run-1?limit=0", 400, "invalid_input"),
        ("GET", "/api/v1/cancellations?state=odd", 400, "invalid_input"),
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/api/v1/runs/run-1/", 404, "not_found"),
        ("PUT", "/api/v1/runs/run-1", 405, "method_not_allowed"),
        ("GET", "/api/v1/workflows/run-1/cancel-tree", 405, "method_not_allowed"),
    ],
)
def test_what_is_refused_says_so_in_our_shape(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error", "message"]
    assert answer.json()["error"] == code
    assert len(answer.text) < 1000


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [("application/json", b"{]", 400, "invalid_input"), ("application/json", b"[1]", 400, "invalid_input"),
     ("application/json", b"", 400, "invalid_input"), ("application/json", b"[" * 9999, 400, "invalid_input"),
     ("application/json", b'{"execution_id":"\\ud800"}', 400, "invalid_input"),
     ("application/json", b"\xff\xfe\xfd", 400, "invalid_input"),
     ("text/plain", b"{}", 415, "unsupported_media_type"), ("", b"{}", 415, "unsupported_media_type")],
)  # fmt: skip
def test_bodies_of_ours(http: httpx.Client, kind: str, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = http.post("/api/v1/executions", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (status, code)


def test_every_request_has_an_id_and_one_line(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="broker.access")
    own = http.get("/api/v1/executions/a%22%0Ab", headers={"X-Request-ID": "req-1"})
    assert own.headers["x-request-id"] == "req-1"
    fresh = http.get("/livez", headers={"X-Request-ID": "two words"}).headers["x-request-id"]
    assert fresh not in ("", "two words")

    def logged() -> list[dict[str, Any]]:
        return [json.loads(record.message) for record in caplog.records if record.name == "broker.access"]

    wait_until_sync(lambda: len(logged()) == 2, "the line of each request, which comes after its answer")
    lines = logged()
    assert [(line["request_id"], line["status"], line["route"]) for line in lines] == [
        ("req-1", 400, "/api/v1/executions/{execution_id}"),
        (fresh, 200, "/livez"),
    ]
    assert lines[0]["params"] == {"execution_id": 'a"\nb'}
    assert all(line["duration_ms"] >= 0 for line in lines)


def test_health_docs_and_head(http: httpx.Client) -> None:
    assert http.get("/readyz").json() == {"status": "ok", "checks": {"redis": "ok", "scripts": "ok", "listener": "ok"}}
    assert http.head("/livez").status_code == 200
    assert http.head("/api/v1/runs/run-1").status_code == 405
    document = http.get("/openapi.json").json()
    page = http.get("/docs").text
    for path, methods in document["paths"].items():
        assert path in page
        for operation in methods.values():
            assert "422" not in operation["responses"]
            (done,) = operation["responses"]["200"]["content"].values()
            assert done["example"], path
            assert operation["summary"]
            assert path in ("/livez", "/readyz") or operation["x-required-scope"] in ("observe", "publish", "cancel")
    assert "http://" not in page
    assert "https://" not in page


def test_two_servers_on_one_redis_answer_the_same(server: Server, redis_url: str) -> None:
    with serving(redis_url) as other:
        register(server.client, "run-1", ROOT, LEAF)
        done = cancel(other.client)
        for path in ("runs/run-1", "runs/run-1/preview", "executions/root"):
            assert server.client.get(f"/api/v1/{path}").json() == other.client.get(f"/api/v1/{path}").json()
        again = cancel(server.client)
        assert again["cancel_id"] == done["cancel_id"]
        assert server.client.post("/api/v1/executions/root/cancel").status_code == 409


def test_the_log_says_who_asked(http: httpx.Client) -> None:
    register(http, "run-1", ROOT)
    cancel(http, headers={"X-Requested-By": "ops"}, json={"reason": "user"})
    entries = http.get("/api/v1/runs/run-1/log").json()["entries"]
    assert (entries[0]["event"], entries[0]["by"], entries[0]["reason"]) == ("requested", "ops", "user")
    assert http.get("/api/v1/runs/nope/log").status_code == 404


def test_the_log_comes_in_pages(http: httpx.Client) -> None:
    """A reader without a cursor gets what it got before: about as much as is kept."""
    register(http, "run-1", ROOT)
    cancel(http)
    whole = http.get("/api/v1/runs/run-1/log").json()
    assert "next_cursor" not in whole
    assert [one["event"] for one in whole["entries"]] == ["requested", "published"]
    read, cursor = [], None
    for _ in range(len(whole["entries"])):
        page = http.get("/api/v1/runs/run-1/log", params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
        read += page["entries"]
        cursor = page["next_cursor"]
    assert read == whole["entries"]
    assert http.get("/api/v1/runs/run-1/log", params={"limit": 1, "cursor": cursor}).json()["entries"] == []


@pytest.mark.parametrize("cursor", ["", "0", "1-", "x-1", "1-1-1", "9" * 20 + "-0", "(1-1", "\u0661-\u0661"])
def test_a_cursor_of_the_log_that_is_none_is_refused(http: httpx.Client, cursor: str) -> None:
    register(http, "run-1", ROOT)
    answer = http.get("/api/v1/runs/run-1/log", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_input")


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_events_are_accepted_one_by_one(http: httpx.Client, kind: str) -> None:
    events = [{"v": 1, "type": "execution.created", "run_id": "run-1", "execution_id": "a"}, {"v": 1, "type": "odd"}]
    body = json.dumps(events) if kind == "application/json" else "\n".join(map(json.dumps, events))
    answer = http.post("/api/v1/events", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 1
    assert [one["index"] for one in answer.json()["refused"]] == [1]
    wait_until_sync(lambda: http.get("/api/v1/executions/a").status_code == 200, "the event to be applied")
    refused = http.post("/api/v1/events", content=b"{]", headers={"Content-Type": kind})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_input")


def test_the_names_of_what_still_runs_come_in_pages(http: httpx.Client) -> None:
    register(http, "run-1", *({"execution_id": f"e{at:04}", "status": "running"} for at in range(1001)))
    cancel(http)
    first = http.get("/api/v1/runs/run-1/cancellation").json()
    assert (len(first["still_running"]), first["still_running_truncated"], first["next_cursor"]) == (1000, True, "1000")
    last = http.get("/api/v1/runs/run-1/cancellation", params={"cursor": first["next_cursor"]}).json()
    assert (len(last["still_running"]), last["still_running_truncated"]) == (1, False)
    assert "next_cursor" not in last
    waited = http.get("/api/v1/runs/run-1/cancellation", params={"cursor": "1000", "wait_ms": "1"}).json()
    own = http.get("/api/v1/executions/e0000/cancellation", params={"cursor": "1000"}).json()
    for page in (waited, own):
        assert [one["execution_id"] for one in page["still_running"]] == [last["still_running"][0]["execution_id"]]
        assert "next_cursor" not in page
    names = {one["execution_id"] for page in (first, last) for one in page["still_running"]}
    assert len(names) == first["totals"]["still_running"] == 1001
    assert http.get("/api/v1/runs/run-1/cancellation", params={"cursor": "x"}).status_code == 400


def test_dead_events_are_listed_in_pages_and_replayed(http: httpx.Client, redis_url: str) -> None:
    bad = [b'{"v":1,"type":"execution.created","execution_id":"a|b"}', b"\xff", b"x" * 70_000]
    with redis.Redis.from_url(redis_url) as client:
        for one in bad:
            client.xadd("cb:events", {"event": one})

    def dead(**query: str) -> dict[str, Any]:
        answer: dict[str, Any] = http.get("/api/v1/events/dead", params=query).json()
        return answer

    wait_until_sync(lambda: len(dead()["events"]) == 3, "all to be refused")
    first = dead(limit="2")
    second = dead(limit="2", cursor=first["next_cursor"])
    listed = [*first["events"], *second["events"]]
    assert "next_cursor" not in second
    named = {one["event"][:60]: one for one in listed}
    invalid = named[bad[0].decode()]
    assert (invalid["error"], "a|b" in invalid["message"], invalid["cut"]) == ("invalid_id", True, False)
    (cut,) = [one for one in listed if one["cut"]]
    ids = [invalid["dead_id"], cut["dead_id"], "1-0"]
    answer = http.post("/api/v1/events/replay", json={"ids": ids}).json()
    assert [one["dead_id"] for one in answer["replayed"]] == ids[:1]
    assert [(one["dead_id"], one["error"]) for one in answer["refused"]] == [
        (ids[1], "invalid_input"),
        (ids[2], "not_found"),
    ]
    wait_until_sync(lambda: len(dead()["events"]) == 3, "it to be refused again")
    assert ids[0] not in {one["dead_id"] for one in dead()["events"]}
    bodies: list[dict[str, Any]] = [{"ids": []}, {"ids": ["-"]}, {"ids": ["\u0661-\u0661"]}, {}]
    for body in bodies:
        assert http.post("/api/v1/events/replay", json=body).status_code == 400, body
    assert http.get("/api/v1/events/dead", params={"cursor": "x"}).status_code == 400
