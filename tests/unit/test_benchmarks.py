"""The harness of the benchmarks judges rightly: what it says of others, and of us, is read by people."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import draw, report
from tests.benchmarks.chart import apart
from tests.benchmarks.comparison import Rounds, Row
from tests.benchmarks.peers import table
from tests.benchmarks.peers.journal import Line, stops_ns
from tests.benchmarks.peers.outcome import outcome
from tests.benchmarks.peers.program import Answer
from tests.benchmarks.peers.rounds import NAMES, Played, modules
from tests.benchmarks.plan import plan
from tests.benchmarks.table import verdict

CALLED_NS = 1_000_000_000


def _answers(*confirmed_ms: float | None) -> list[Answer]:
    return [
        Answer(task, at is not None, CALLED_NS + int((at or 0.0) * 1e6), "yes" if at is not None else "no answer")
        for task, at in enumerate(confirmed_ms)
    ]


def _stops(*stops_ms: float | None) -> dict[int, int]:
    return {task: CALLED_NS + int(at * 1e6) for task, at in enumerate(stops_ms) if at is not None}


def test_a_stop_is_the_bodys_word_or_the_death_of_its_process() -> None:
    lines = [Line("start", 1, 7, 10), Line("start", 2, 8, 11), Line("stop", 1, 7, 20), Line("start", 3, 9, 12)]
    assert stops_ns(lines, {8: 30, 7: 40}) == {1: 20, 2: 30}, "task 3 still runs, and 7 died after its body had ended"


def test_a_task_that_ran_again_has_not_stopped() -> None:
    lines = [Line("start", 1, 7, 10), Line("start", 1, 8, 50)]
    assert stops_ns(lines, {7: 30}) == {}


def test_who_is_told_too_early_is_told_falsely() -> None:
    end = outcome(CALLED_NS, _answers(5.0, 9.0, 9.0), _stops(8.0, 8.0, None), 0, CALLED_NS + 100_000_000)
    assert (end.stopped, end.confirmed, end.false) == (2, 3, 2)
    assert end.false_by_ms == pytest.approx(91.0)
    assert end.knows_ms == pytest.approx(9.0)
    assert end.last_stop_ms is None, "one of them never stopped"


def test_a_death_that_was_seen_late_makes_nobody_a_liar() -> None:
    end = outcome(CALLED_NS, _answers(5.0, 5.0), _stops(90.0, 200.0), 0, CALLED_NS, {0, 1})
    assert end.false == 1, "95 ms may be the watcher's, 195 ms are not"


def test_who_was_not_told_of_all_does_not_know() -> None:
    end = outcome(CALLED_NS, _answers(9.0, None), _stops(8.0, 8.5), 0, CALLED_NS)
    assert (end.knows_ms, end.confirmed, end.false) == (None, 1, 0)
    assert end.last_stop_ms == pytest.approx(8.5)
    assert end.says == {"yes": 1, "no answer": 1}


def test_one_round_without_knowledge_is_shown_as_never() -> None:
    known = outcome(CALLED_NS, _answers(9.0), _stops(8.0), 0, CALLED_NS)
    unknown = outcome(CALLED_NS, _answers(None), _stops(8.0), 0, CALLED_NS)
    peers = _peers(_plain("x", known), _plain("x", unknown), _plain("y", known), _plain("z", None, "no such thing"))
    rows = {row[0]: row for row in table.side_rows(peers)}
    assert rows["x"][3] == "never"
    assert rows["y"][3] == "9 (9–9)"
    assert "no such thing" in rows["z"][2]


def test_ours_is_compared_with_the_fastest_that_knows() -> None:
    ours, slow, fast = (outcome(CALLED_NS, _answers(at), _stops(1.0), 0, CALLED_NS) for at in (10.0, 200.0, 40.0))
    deaf = outcome(CALLED_NS, _answers(None), _stops(1.0), 0, CALLED_NS)
    peers = _peers(_plain("this project", ours), _plain("slow", slow), _plain("fast", fast), _plain("deaf", deaf))
    (line,) = table.verdicts(peers, "this project", {1: 1 / 5})
    assert "40 ms of fast" in line
    assert "1/4.0, target 1/5: missed, 1.2 times too slow" in line


def _plain(name: str, end: Any, failure: str = "") -> Played:
    return Played(name, "", "plain", 1, end, failure)


def _peers(*played: Played) -> dict[str, Any]:
    from tests.benchmarks.peers.rounds import Programme, as_json

    section = as_json(Programme([], [], {}, {}, {}), played)
    kept: dict[str, Any] = json.loads(json.dumps(section))
    return kept


def test_a_target_is_missed_by_so_much() -> None:
    rounds = Rounds(taken=[{"a.ms": 9.0, "f.ms": 3.0}, {"a.ms": 12.0, "f.ms": 3.0}, {"a.ms": 6.0, "f.ms": 3.0}])
    assert verdict(Row("", "a.ms", "f.ms", 1, 3.0), rounds) == "met"
    assert verdict(Row("", "a.ms", "f.ms", 1, 1.5), rounds) == "missed, 2 × the target"
    assert verdict(Row("", "a.ms", "f.ms", 1, 6.0, absolute=True), rounds) == "missed, 1.5 × the target"
    assert verdict(Row("", "b.ms", "f.ms", 1, 1.5), rounds) == ""


@pytest.mark.parametrize("short", [True, False])
def test_every_row_names_what_is_measured(short: bool) -> None:
    cases, rows = plan(short=short)
    measured = {side.name for case in cases for side in case.sides}
    assert {name for row in rows for name in row.measurements} == measured


def test_every_contender_can_be_described_without_being_installed() -> None:
    for module in modules(()):
        contender = importlib.import_module(module).CONTENDER
        assert contender.knows
        assert contender.why_not_more or contender.largest >= 1_000, contender.name
    with pytest.raises(SystemExit, match="there are ours, ray"):
        modules(["kafka"])
    assert modules(["arq"]) == ["tests.benchmarks.peers.arq"]
    assert len(NAMES) == len(set(NAMES))


def test_what_contenders_share_needs_only_the_standard_library() -> None:
    shared = "import tests.benchmarks.peers.program, tests.benchmarks.peers.contender, sys"
    foreign = "print([name for name in ('redis', 'pydantic', 'structlog', 'broker') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{shared}; {foreign}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sections_are_kept_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "results" / "figures.json"
    report.write(path, "figures", {"n": 1})
    report.write(path, "peers", {"n": 2})
    report.write(path, "figures", {"n": 3})
    assert report.read(path) == {"figures": {"n": 3}, "peers": {"n": 2}}


def test_only_what_stands_between_the_marks_is_written() -> None:
    text = f"before\n{draw.BEGIN}\nold\n{draw.END}\nafter\n"
    once = draw.between_marks(text, "new")
    assert once == f"before\n{draw.BEGIN}\nnew\n{draw.END}\nafter\n"
    assert draw.between_marks(once, "new") == once
    with pytest.raises(ValueError, match="the README has no"):
        draw.between_marks("no marks", "new")


def test_names_in_a_picture_do_not_cover_each_other() -> None:
    assert apart([10.0, 12.0, 40.0], least=14.0) == pytest.approx([6.0, 20.0, 36.0])
    assert apart([]) == []


def test_a_picture_is_well_formed_and_has_every_line() -> None:
    taken = {"F2(1000).confirmed": 50.0, "cancel-1000.confirmed": 70.0, "cancel-1000.stop:50": 30.0, "F1.lag:50": 0.4}
    known = outcome(CALLED_NS, _answers(9.0), _stops(8.0), 0, CALLED_NS)
    kept = {"figures": {"rounds": [taken]}, "peers": _peers(_plain("a < b", known), _plain("this project", known))}
    chart = draw.confirmation(kept)
    assert chart is not None
    drawn = ET.fromstring(chart.svg())
    names = {node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a < b", "this project", "bare fan-out (floor)"} <= names
    assert draw.lag({}) is None
