"""Every way in which a server can fail to answer is one clear line and the right exit code, over a real socket."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from broker.cli.client import check_server, is_loopback, path_of
from broker.errors import InvalidInput
from tests.support.cli import Cli
from tests.support.stub_server import Asked, Canned, StubServer, stub_server, talking

EXECUTION = {"execution_id": "leaf-1", "depth": 0, "status": "running"}


@contextmanager
def _answering(body: Any, status: int = 200, **headers: str) -> Iterator[StubServer]:
    with stub_server(lambda _: Canned(body, status, headers)) as server:
        yield server


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (400, {"error": "invalid_input", "message": "reason: 1 is not a text"}, 2, "reason: 1 is not a text"),
        (400, {"error": "invalid request body: no"}, 2, "invalid request body: no"),
        (401, {"error": "unauthorized", "message": "no"}, 1, "wants a token: set BROKER_TOKEN"),
        (401, b"<html>", 1, "wants a token: set BROKER_TOKEN"),
        (403, {"error": "forbidden", "message": "needs cancel"}, 1, "needs cancel (--token or BROKER_TOKEN"),
        (404, {"error": "execution leaf-1 not found"}, 4, "execution leaf-1 not found"),
        (404, {"error": "no_cancellation", "message": "nobody cancelled it"}, 4, "nobody cancelled it"),
        (404, b"<html>nginx</html>", 1, "is no broker server (it answers 404"),
        (404, {"detail": "Not Found"}, 1, "is no broker server"),
        (409, {"error": "invalid_state", "message": "execution is in terminal state 'failed'"}, 5, "'failed'"),
        (409, {"error": "already_terminal", "message": "x"}, 5, "execution leaf-1 is in terminal state"),
        (409, {"error": "worker_alive", "message": "its heart beats"}, 1, "its heart beats"),
        (413, {"error": "too_large", "message": "at most 8 MiB"}, 2, "at most 8 MiB"),
        (500, {"error": "failed to look up execution"}, 1, "failed to look up execution"),
        (503, {"error": "broker_unavailable", "message": "Redis is gone"}, 6, "Redis is gone"),
        (503, {"error": "store_refused", "message": "OOM"}, 1, "OOM"),
        (502, b"<html>bad gateway", 6, "no broker server is reached behind it"),
        (500, b"Internal Server Error", 1, "is no broker server"),
        (302, b"", 1, "a redirect"),
        (200, b"<html>hello</html>", 1, "its answer is no JSON"),
        (200, [], 1, "is no broker server"),
        (200, {"execution_id": "leaf-1"}, 1, "depth: Field required"),
        (200, b"[" * 100_000, 1, "its answer is no JSON"),
        (200, None, 6, "cannot reach the server"),
    ],
)
def test_what_a_server_answers_is_one_line_and_an_exit_code(
    cli: Cli, status: int, body: Any, code: int, text: str
) -> None:
    with _answering(body, status) as server:
        left, out, error = cli("execution", "show", "leaf-1", "--server", server.url)
    assert (left, out, error.count("\n")) == (code, "", 1)
    assert error.startswith("broker: ")
    assert text in error


def test_nobody_there_is_6_and_says_what_to_try(cli: Cli) -> None:
    code, out, error = cli("worker", "list", "--server", f"http://127.0.0.1:{_free_port()}")
    assert (code, out, error.count("\n")) == (6, "", 1)
    assert "Connection refused" in error
    assert "is `broker serve` running there? --server or BROKER_SERVER names another" in error


def test_a_name_that_does_not_exist_is_6(cli: Cli) -> None:
    code, _, error = cli("worker", "list", "--server", "http://nowhere.invalid")
    assert (code, error.count("\n")) == (6, 1)
    assert "http://nowhere.invalid" in error


def test_a_server_that_does_not_answer_is_6_and_names_the_timeout(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code, _, error = cli("worker", "list", "--server", url, "--timeout", "0.1")
        assert (code, error.count("\n")) == (6, 1)
        assert "did not answer within 0.1 s (--timeout or BROKER_TIMEOUT allows more)" in error
        code, _, error = cli("execution", "cancel-run", "nightly", "--server", url, "--timeout", "0.1")
        assert code == 6
        assert "the cancel may have been accepted, see: broker run report nightly" in error


def test_a_cancel_that_was_never_sent_does_not_claim_otherwise(cli: Cli) -> None:
    code, _, error = cli("execution", "cancel-run", "nightly", "--server", f"http://127.0.0.1:{_free_port()}")
    assert code == 6
    assert "may have been accepted" not in error


def test_what_speaks_no_http_is_not_ours(cli: Cli) -> None:
    with talking(b"SSH-2.0-OpenSSH_9.7\r\n\r\n") as (url, _):
        code, _, error = cli("worker", "list", "--server", url)
    assert (code, error.count("\n")) == (1, 1)
    assert "is no broker server" in error


@pytest.mark.parametrize(
    "begun", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"], ids=["length", "chunk"]
)
def test_an_answer_that_is_cut_is_6_as_its_server_has_gone(cli: Cli, begun: bytes) -> None:
    with talking(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + begun) as (url, _):
        code, _, error = cli("worker", "list", "--server", url)
    assert (code, error.count("\n")) == (6, 1)
    assert "cannot reach the server" in error


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:8470", "http://", "http://host:port", "http://host:99999", "http://a b", "http://h?x=1"]
)
def test_an_address_that_is_none_is_usage(cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_SERVER", url)
    code, out, error = cli("worker", "list")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert f"--server (BROKER_SERVER) {url!r}: allowed are http://HOST" in error


def test_a_password_in_the_address_is_refused_and_not_shown(cli: Cli) -> None:
    code, _, error = cli("worker", "list", "--server", "http://me:hunter2@host")
    assert code == 2
    assert "hunter2" not in error


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--timeout", "soon", "0.1 to 3,600 seconds"),
        ("--timeout", "0", "0.1 to 3,600 seconds"),
        ("--wait", "nan", "0 to 31,536,000 seconds"),
        ("--wait", "-1", "0 to 31,536,000 seconds"),
        ("--order", "top_down", "bottom_up, bottom_up_barrier"),
        ("--force-after", "never", "0 to"),
        ("--deadline", "1e400", "0 to"),
        ("--grace", "", "0 to"),
    ],
)
def test_a_bad_value_names_the_option_the_variable_and_what_is_allowed(
    cli: Cli, option: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "BROKER_" + option[2:].upper().replace("-", "_")
    said = [cli("execution", "cancel-run", "r", f"{option}={value}")]
    if value:  # an empty variable is none
        monkeypatch.setenv(variable, value)
        said.append(cli("execution", "cancel-run", "r"))
    for code, out, error in said:
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert f"{option} ({variable}) {value!r}: allowed are {allowed}" in error


def test_a_switch_can_be_a_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with _answering(EXECUTION) as server:
        monkeypatch.setenv("BROKER_SERVER", server.url)
        monkeypatch.setenv("BROKER_JSON", "yes")
        assert cli("execution", "show", "leaf-1")[1].startswith('{"execution_id":"leaf-1"')
        monkeypatch.setenv("BROKER_JSON", "perhaps")
        code, _, error = cli("execution", "show", "leaf-1")
    assert (code, error.count("\n")) == (2, 1)
    assert "BROKER_JSON 'perhaps': allowed are 1, true, yes, on or 0, false, no, off" in error


def test_the_token_is_sent_and_never_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with _answering({"error": "unauthorized"}, 401) as server:
        monkeypatch.setenv("BROKER_SERVER", server.url)
        monkeypatch.setenv("BROKER_TOKEN", "s3cret")
        code, out, error = cli("worker", "list")
        monkeypatch.setattr(sys, "stdin", io.StringIO("from-stdin\n"))
        cli("worker", "list", "--token", "-")
    assert [one.headers["authorization"] for one in server.asked] == ["Bearer s3cret", "Bearer from-stdin"]
    assert (code, error.count("\n")) == (1, 1)
    assert "does not know this token: check BROKER_TOKEN" in error
    assert "s3cret" not in out + error


def test_without_a_token_the_user_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ops")
    with _answering(EXECUTION) as server:
        cli("execution", "show", "leaf-1", "--server", server.url)
        monkeypatch.setenv("LOGNAME", "öps")
        cli("execution", "show", "leaf-1", "--server", server.url)
        cli("execution", "show", "leaf-1", "--server", server.url, "--token", "t")
    assert [one.headers.get("x-requested-by") for one in server.asked] == ["ops", None, None]


@pytest.mark.parametrize("token", ["two words", "ümlaut", "a\x07b"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(cli: Cli, token: str) -> None:
    code, _, error = cli("worker", "list", "--token", token)
    assert (code, error.count("\n")) == (2, 1)
    assert "--token (BROKER_TOKEN)" in error
    assert token not in error


def test_hostile_text_does_not_reach_the_terminal(cli: Cli) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\nbroker: all is well\u202e\ud800\x9b31m"
    with _answering({**EXECUTION, "status": evil, "status_reason": evil, "agent_node_id": evil}) as server:
        said = [cli("execution", "show", "leaf-1", "--server", server.url)]
        said.append(cli("execution", "show", "leaf-1", "--json", "--server", server.url))
    with _answering({"error": "x", "message": evil}, 409) as server:
        said.append(cli("execution", "show", "leaf-1", "--server", server.url))
    for _, out, error in said:
        assert (out + error).replace("\n", "").isprintable()
        assert "\nbroker: all" not in out + error


def test_no_id_can_leave_its_place_in_the_path(cli: Cli) -> None:
    with _answering(EXECUTION) as server:
        cli("execution", "show", "..", "--server", server.url)
        cli("execution", "show", "a:b@c", "--server", f"{server.url}/behind/")
    assert [one.path for one in server.asked] == [
        "/api/v1/executions/%2E%2E",
        "/behind/api/v1/executions/a%3Ab%40c",
    ]
    assert path_of("a/b?c#d") == "/api/v1/a%2Fb%3Fc%23d"
    code, _, error = cli("execution", "show", "a/../b")
    assert (code, error.count("\n")) == (2, 1)
    assert "ID: 'a/../b' is not an id" in error


def test_the_proxy_of_the_environment_is_for_other_hosts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with _answering(EXECUTION) as server, _answering({**EXECUTION, "status": "proxied"}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert "running" in cli("execution", "show", "leaf-1", "--server", server.url)[1]
        assert "proxied" in cli("execution", "show", "leaf-1", "--server", "http://broker.invalid")[1]
    monkeypatch.setenv("http_proxy", "gopher://x")
    code, _, error = cli("execution", "show", "leaf-1", "--server", "http://broker.invalid")
    assert (code, error.count("\n")) == (2, 1)
    assert "HTTP_PROXY" in error


@pytest.mark.parametrize(
    ("url", "loopback"),
    [("http://127.0.0.1:1", True), ("http://[::1]", True), ("http://localhost", True), ("http://example.com", False)],
)
def test_loopback_is_recognised(url: str, loopback: bool) -> None:
    assert is_loopback(check_server(url)) is loopback


def test_an_address_keeps_its_path_and_loses_its_slash() -> None:
    assert check_server("https://host/broker/") == "https://host/broker"
    with pytest.raises(InvalidInput):
        check_server("http://host#x")


def test_a_list_that_never_ends_is_not_ours(cli: Cli) -> None:
    def page(asked: Asked) -> Canned:
        return Canned({"workers": [], "next_cursor": "again"})

    with stub_server(page) as server:
        code, _, error = cli("worker", "list", "--server", server.url)
    assert (code, error.count("\n")) == (1, 1)
    assert "it gives the cursor 'again' twice" in error
