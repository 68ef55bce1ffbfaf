"""`broker top` against a real server: what it says of a straggler is what the report says."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios

import pytest

import broker
from tests.support.cli import Cli
from tests.support.http import Server, register

RUN = "nightly"


@pytest.fixture
def at_server(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    cli = Cli(monkeypatch, capsys)
    monkeypatch.setenv("BROKER_SERVER", server.url)
    return cli


def straggle(server: Server) -> None:
    """One that is said to be running, and that nobody holds."""
    register(server.client, RUN, {"execution_id": "leaf", "status": "running"})
    server.client.post(f"/api/v1/workflows/{RUN}/cancel-tree", json={"reason": "x"}).raise_for_status()


def _be_cancelled(server: Server, execution: broker.HeldExecution) -> None:
    server.client.post(f"/api/v1/workflows/{RUN}/cancel-tree").raise_for_status()
    assert execution.wait(20)
    execution.raise_if_cancelled()


def test_one_frame_names_what_the_report_names(at_server: Cli, server: Server, redis_url: str) -> None:
    straggle(server)
    with broker.Worker(redis_url, worker_id="w-1", agent_node_id="gpu-7"):
        code, out, error = at_server("top", "--once")
        assert (code, error) == (0, "")
        cause = server.client.get(f"/api/v1/runs/{RUN}/cancellation").json()["still_running"][0]["cause"]
        assert f"causes: 1 {cause}" in out
        assert f"run {RUN}" in out
        assert any("alive" in line and "w-1" in line and "gpu-7" in line for line in out.splitlines())
        code, out, _ = at_server("top", "--json")
    seen = json.loads(out)
    assert (seen["open"], seen["outstanding"], seen["causes"], seen["workers_alive"]) == (1, 1, {cause: 1}, 1)
    assert len(seen["recent"]["points"]) == 30


def test_the_lag_of_what_was_heard_is_in_the_frame(at_server: Cli, server: Server, redis_url: str) -> None:
    with broker.Worker(redis_url, worker_id="w-1") as worker:
        with pytest.raises(broker.ExecutionCancelled), worker.execution(RUN, "leaf") as execution:
            _be_cancelled(server, execution)
        seen = json.loads(at_server("top", "--json")[1])
    assert seen["recent"]["ack_lag"]["received"]["count"] == 1
    assert seen["recent"]["ack_lag"]["stopped"]["count"] == 1
    assert [one for one in seen["recent"]["points"] if one is not None]


@pytest.mark.parametrize(("end", "code"), [(b"q", 0), (b"\x03", 130)])
def test_on_a_terminal_it_is_live_until_a_key_says_so(server: Server, end: bytes, code: int) -> None:
    straggle(server)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environ = {**os.environ, "BROKER_SERVER": server.url, "TERM": "xterm"}
    environ.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "top"], env=environ, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    _until(ours, b"1 open cancel,")
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 30, 0, 0))
    process.send_signal(signal.SIGWINCH)
    _until(ours, b"1 open cancel,")  # drawn again
    os.write(ours, end)
    rest = _until(ours, None)
    assert process.wait(60) == code
    assert b"\x1b[?1049l" in rest  # the screen that was before is back
    os.close(ours)


def _until(terminal: int, text: bytes | None) -> bytes:
    """What was written up to this text, or up to the end."""
    seen = b""
    while text is None or text not in seen:
        assert select.select([terminal], [], [], 60)[0], f"not written within 60 s: {text!r}"
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            assert text is None, seen
            return seen
    return seen
