"""The picture of `broker top`: a fleet of two worker processes, one of them stopped, and a cancel that waits for it.

    python -m tests.pictures.top deploy/pictures/top.svg

It takes half a minute: a stopped worker is suspected when its heartbeat is 15 s old.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import broker
from broker.cli.terminal import Paint
from broker.cli.view.top import top_lines
from broker.embedded import EmbeddedServer
from broker.errors import ExecutionCancelled
from broker.protocol.http.overview import OverviewAnswer
from tests.support.http import Server, register, serving
from tests.support.wait import wait_until_sync

WIDTH, HEIGHT = 100, 14
RUN = "nightly"
LEAVES = 6


def main(target: Path) -> None:
    """Writes the picture to `target`."""
    redis = EmbeddedServer(host="127.0.0.1", port=0)
    url = redis.start()
    fleet = [_started(url, name) for name in ("gpu-7", "gpu-8")]
    try:
        with serving(url) as server:
            _cancel(server, fleet[1])
            seen = OverviewAnswer.model_validate(_overview(server))
    finally:
        for process in fleet:
            process.kill()
            process.wait()
        redis.stop()
    draw(seen, target)


def draw(seen: OverviewAnswer, target: Path) -> None:
    """The frame as an SVG, by Rich."""
    from rich.console import Console
    from rich.text import Text

    lines = top_lines(seen, "http://127.0.0.1:8470", Paint(colour=True), width=WIDTH, height=HEIGHT)
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi("\n".join(lines), no_wrap=True))
        target.write_text(console.export_svg(title="broker top", unique_id="top"), encoding="utf-8")


def _cancel(server: Server, stopped: subprocess.Popen[str]) -> None:
    names = [f"{worker}-{number}" for worker in ("gpu-7", "gpu-8") for number in range(LEAVES)]
    register(server.client, RUN, {"execution_id": "planner"})
    wait_until_sync(lambda: _held(server) == len(names), "all bodies to be held", 60.0)
    stopped.send_signal(signal.SIGSTOP)
    headers = {"X-Requested-By": "ops"}
    path = f"/api/v1/workflows/{RUN}/cancel-tree?deadline_ms=5000"
    server.client.post(path, json={"reason": "wrong data"}, headers=headers).raise_for_status()
    wait_until_sync(lambda: _overview(server)["causes"] == {"worker_lost": LEAVES}, "the worker to be suspected", 60.0)


def _held(server: Server) -> int:
    listed = server.client.get(f"/api/v1/runs/{RUN}").json()["nodes"]
    return sum("claim" in node for node in listed)


def _overview(server: Server) -> dict[str, Any]:
    answer: dict[str, Any] = server.client.get("/api/v1/overview").json()
    return answer


def _started(url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tests.pictures.top", "--worker", url, name], text=True)


def _work(url: str, name: str) -> None:
    """A worker process: bodies that wait, and obey."""

    def body(number: int) -> None:
        with suppress(ExecutionCancelled), worker.execution(RUN, f"{name}-{number}") as execution:
            execution.wait(120)
            execution.raise_if_cancelled()

    with broker.Worker(url, worker_id=f"{name}-1", agent_node_id=name) as worker:
        threads = [threading.Thread(target=body, args=(number,)) for number in range(LEAVES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        threading.Event().wait(120)  # until it is killed: it goes on beating


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        _work(*sys.argv[2:])
    else:
        main(Path(sys.argv[1]))
