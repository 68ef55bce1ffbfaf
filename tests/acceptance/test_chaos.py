"""A short round of chaos is clean, and goes red when a lie is planted into what its processes wrote down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.facts import Execution, read_facts
from tests.chaos.truth import Line, read_lines
from tests.support.tree import ROOT


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.chaos", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)


def play(kept: Path, figures: Path, minutes: str) -> None:
    played = chaos(
        "--minutes", minutes, "--seed", "11", "--rate", "30", "--workers", "2", "--heartbeat", "0.5",
        "--keep", str(kept), "--json", str(figures),
    )  # fmt: skip
    assert played.returncode == 0, played.stdout + played.stderr
    told = json.loads(figures.read_text())
    assert (told["lost"], told["wrong"]) == (0, 0)
    assert min(told["executions"], told["operations"], sum(told["faults"].values())) > 0


def stopped_in(kept: Path) -> dict[str, Execution]:
    """What was said of those that a worker says to have stopped."""
    return {
        execution_id: said
        for run in read_facts(kept).values()
        for execution_id, said in run.executions.items()
        if said.disposition == "stopped" and said.acked_start and said.settled_us
    }


def is_begin_of(line: Line, executions: dict[str, Execution]) -> bool:
    return line.word == "began" and line.rest[0] in executions and bool(line.rest[1])


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("redis_server")  # for its skip where no program is installed
def test_a_round_is_clean_and_a_planted_lie_is_found(tmp_path: Path) -> None:
    """Where other tests use all cores, nothing that began may have been stopped within seven seconds: then longer."""
    kept, figures = tmp_path / "round", tmp_path / "figures.json"
    stopped: dict[str, Execution] = {}
    began: Line | None = None
    for minutes in ("0.12", "0.3", "0.6"):
        kept = tmp_path / minutes
        play(kept, figures, minutes)
        stopped = stopped_in(kept)
        began = next((one for one in read_lines(kept) if is_begin_of(one, stopped)), None)
        if began is not None:
            break
    assert began is not None, "no body was stopped in any of the rounds"
    execution_id, start = began.rest
    settled_us = stopped[execution_id].settled_us
    assert settled_us is not None
    lie = json.dumps([settled_us + 1, 0, "ended", execution_id, start, "returned"])
    with (kept / f"{began.where}.jsonl").open("a") as file:
        file.write(f"{lie}\n")
    judged = chaos("--check", str(kept))
    assert judged.returncode == 1, judged.stdout + judged.stderr
    assert f"wrong: {execution_id} of " in judged.stdout
    assert "worker-" in judged.stdout
    assert "log: " in judged.stdout
