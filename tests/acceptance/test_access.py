"""Who may do what, and what is refused before anything is done."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from broker.errors import InvalidInput
from broker.protocol.http.requests import BODY_LIMIT
from broker.server.settings import load_settings
from broker.server.tokens import new_token
from tests.support.http import Server, register, serving

TOKENS = {scope: new_token(f"{scope}-bot", [scope]) for scope in ("observe", "publish", "cancel")}


@pytest.fixture(scope="module")
def guarded_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    tokens = tmp_path_factory.mktemp("access") / "tokens"
    tokens.write_text("\n".join(["# a comment", "", *(line for _, line in TOKENS.values())]))
    with ExitStack() as stack:
        yield functools.cache(lambda url: stack.enter_context(serving(url, tokens_file=str(tokens))))


@pytest.fixture
def guarded(redis_url: str, guarded_servers: Callable[[str], Server]) -> Server:
    """One server with tokens for all tests of this file, on each Redis."""
    return guarded_servers(redis_url)


def bearer(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[scope][0]}"}


CALLS = {
    "observe": ("GET", "/api/v1/runs/run-1"),
    "publish": ("POST", "/api/v1/runs/run-1/executions"),
    "cancel": ("POST", "/api/v1/workflows/run-1/cancel-tree"),
}
ALLOWED = {"observe": {"observe"}, "publish": {"observe", "publish"}, "cancel": {"observe", "cancel"}}


@pytest.mark.parametrize("given", TOKENS)
@pytest.mark.parametrize("needed", CALLS)
def test_a_scope_opens_what_it_says(guarded: Server, given: str, needed: str) -> None:
    method, path = CALLS[needed]
    answer = guarded.client.request(method, path, headers=bearer(given))
    if needed in ALLOWED[given]:
        assert answer.status_code in (400, 404)
    else:
        assert answer.status_code == 403
        assert answer.json()["error"] == "forbidden"
        assert needed in answer.json()["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nope"},
        {"Authorization": "Basic abc"},
        {"X-API-Key": "nope"},
        {b"X-API-Key": b"\xff"},
    ],
)
def test_without_a_token_nothing_is_looked_at(guarded: Server, headers: dict[str, str] | dict[bytes, bytes]) -> None:
    for method, path in CALLS.values():
        answer = guarded.client.request(method, path, headers=headers, content=b"{]")
        assert answer.status_code == 401
        assert answer.json()["error"] == "unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert guarded.client.get("/livez").status_code == 200
    assert guarded.client.get("/readyz").status_code == 200


def test_the_name_of_the_token_is_who_asked(guarded: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    http = guarded.client
    http.headers.update(bearer("publish"))
    register(http, "run-1", {"execution_id": "a", "status": "running"})
    http.headers.clear()
    key = {"X-API-Key": TOKENS["cancel"][0], "X-Requested-By": "somebody else"}
    http.post("/api/v1/workflows/run-1/cancel-tree", headers=key).raise_for_status()
    report = http.get("/api/v1/runs/run-1/cancellation", headers=bearer("observe")).json()
    assert report["requested_by"] == "cancel-bot"
    for token, line in TOKENS.values():
        assert token not in caplog.text
        assert line.split()[2] not in caplog.text


def test_without_tokens_the_caller_says_who_he_is(http: httpx.Client) -> None:
    register(http, "run-1", {"execution_id": "a", "status": "running"})
    http.post("/api/v1/workflows/run-1/cancel-tree", headers={"X-Requested-By": "ops"}).raise_for_status()
    assert http.get("/api/v1/runs/run-1/cancellation").json()["requested_by"] == "ops"


# --- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/executions/a/cancel", "/api/v1/executions"])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_over_the_limit_is_refused(http: httpx.Client, path: str, chunked: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_LIMIT // 65_536 + 1):
            yield b" " * 65_536

    content = pieces() if chunked else b" " * (BODY_LIMIT + 1)
    answer = http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (413, "body_too_large")
    assert http.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/v1/executions/a/cancel?wait_ms=60001", "wait_ms 60001"),
        ("/api/v1/executions/a/cancel?order=sideways", "order 'sideways'"),
        ("/api/v1/workflows/a/cancel-tree?deadline_ms=-1", "deadline_ms -1"),
        ("/api/v1/executions/a/cancel-subtree?grace_ms=soon", "grace_ms 'soon'"),
    ],
)
def test_a_bad_query_is_named(http: httpx.Client, path: str, names: str) -> None:
    register(http, "run-1", {"execution_id": "a"})
    answer = http.post(path)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_input")
    assert names.split(maxsplit=1)[0] in answer.json()["message"]
    assert http.get("/api/v1/executions/a").json()["status"] == "pending", "nothing was done"


def test_a_batch_over_the_limit_is_refused_whole(http: httpx.Client) -> None:
    many = {"executions": [{"execution_id": f"e{n}"} for n in range(10_001)]}
    answer = http.post("/api/v1/runs/run-1/executions", json=many)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_input")
    assert http.get("/api/v1/runs/run-1").status_code == 404


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_an_idempotency_key_has_a_length(http: httpx.Client, key: str) -> None:
    register(http, "run-1", {"execution_id": "a"})
    answer = http.post("/api/v1/executions/a/cancel-subtree", headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_input")


# --- settings -----------------------------------------------------------------------------------------


def test_another_address_than_loopback_needs_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        with pytest.raises(InvalidInput, match="without tokens"):
            load_settings(host=host)
    monkeypatch.setenv("BROKER_TOKENS", TOKENS["cancel"][1])
    assert load_settings(host="0.0.0.0").host == "0.0.0.0"


@pytest.mark.parametrize(
    ("variable", "value", "names"),
    [("BROKER_PORT", "99999", "BROKER_PORT '99999'"), ("BROKER_REDIS_TIMEOUT_S", "never", "BROKER_REDIS_TIMEOUT_S"),
     ("BROKER_TOKENS", "name cancel secret", "BROKER_TOKENS, line 1"), ("BROKER_TOKENS_FILE", "/nope", "/nope"),
     ("BROKER_TOKENS", "# none", "no token"), ("BROKER_TOKENS", f"x fly {'0' * 64}", "'fly'")],
)  # fmt: skip
def test_a_bad_setting_names_variable_and_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, names: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput) as error:
        load_settings()
    assert names in str(error.value)
    assert "secret" not in str(error.value)
    assert "0" * 64 not in str(error.value)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"Host": "localhost:8470"}, 404),
        ({"Host": "[::1]:8470"}, 404),
        ({"Host": "evil.example:8470"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:8470", "Origin": "http://localhost:8470"}, 404),
    ],
)
def test_without_tokens_no_web_page_of_elsewhere_may_call(
    http: httpx.Client, headers: dict[str, str], status: int
) -> None:
    answer = http.post("/api/v1/workflows/run-1/cancel-tree", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"] == "forbidden"
        assert "without tokens" in answer.json()["message"]


def test_with_a_token_the_origin_does_not_matter(guarded: Server) -> None:
    headers = {**bearer("cancel"), "Origin": "https://console.example", "Host": "broker.example"}
    assert guarded.client.post("/api/v1/workflows/run-1/cancel-tree", headers=headers).status_code == 404
