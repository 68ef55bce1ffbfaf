"""`broker serve` as a process: the one line it says, its exit codes, and how it leaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.cli import Cli
from tests.support.http import register
from tests.support.points import PATIENCE_S

COMMAND = (sys.executable, "-m", "broker", "serve", "--port", "0")


@contextmanager
def process(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address that it says."""
    with subprocess.Popen(
        [*COMMAND, *options],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            assert started.stdout is not None
            line = started.stdout.readline()
            assert line.startswith("broker serves on http://127.0.0.1:"), line
            yield started, line.split()[-1]
        finally:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_on_the_embedded_default_and_leaves_cleanly(number: signal.Signals) -> None:
    with process() as (server, url):
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as http:
            register(http, "run-1", {"execution_id": "a", "status": "running"})
            assert http.post("/api/v1/workflows/run-1/cancel-tree").json()["still_running_count"] == 1
        server.send_signal(number)
        out, err = server.communicate(timeout=PATIENCE_S)
    assert (server.returncode, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "environment", "code", "says"),
    [
        (["--redis-url", "redis://127.0.0.1:1"], {}, 6, "Redis"),
        (["--redis-url", "http://nowhere"], {}, 2, "http://nowhere"),
        (["--host", "0.0.0.0"], {}, 2, "without tokens"),
        (["--port", "x"], {}, 2, "--port 'x'"),
        ([], {"BROKER_TOKENS_FILE": "/nope"}, 2, "BROKER_TOKENS_FILE"),
        (["--host", "192.0.2.1", "--tokens-file", "TOKENS"], {}, 2, "192.0.2.1"),
    ],
    ids=["unreachable", "no redis", "open to all", "no port", "no tokens", "not ours"],
)
def test_what_keeps_it_from_serving_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    options: list[str], environment: dict[str, str], code: int, says: str,
) -> None:  # fmt: skip
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ops cancel {'0' * 64}\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = ["serve", "--port", "0", *(str(tokens) if one == "TOKENS" else one for one in options)]
    left_with, out, err = cli(*words)
    lines = [line for line in err.splitlines() if not line.startswith("{")]
    assert (left_with, out, len(lines)) == (code, "", 1), err
    assert says in lines[0]
    assert "0" * 64 not in err


def test_a_port_that_is_taken_is_said(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        left_with, _, err = cli("serve", "--port", str(taken.getsockname()[1]))
    assert left_with == 2
    assert "in use" in err


def test_the_process_leaves_with_the_code() -> None:
    command = [*COMMAND, "--port", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S * 3, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
