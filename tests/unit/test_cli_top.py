"""A frame of `broker top`: it fits, the worst is in it, and nothing in it can move a cursor."""

from __future__ import annotations

from broker.cli.terminal import Paint
from broker.cli.view.top import spark, top_lines
from broker.protocol.http.answers import AckLagAnswer, CancellationAnswer, LagAnswer, WorkerAnswer
from broker.protocol.http.overview import OverviewAnswer, RecentLagAnswer

HOSTILE = "evil\x1b[2J\n\u202e"
LAG = LagAnswer(count=9, p50_ms=1.0, p99_ms=20.0, max_ms=30.0)


def cancel(number: int) -> CancellationAnswer:
    return CancellationAnswer(
        run_id=f"{HOSTILE}{number}", cancel_id=f"c_{number}", scope="run", state="open", overdue=True,
        requested_by=HOSTILE, requested_at="x", deadline_at="x", outstanding=1, oldest_age_ms=65_000,
        causes={"worker_lost": 1},
    )  # fmt: skip


def overview(cancels: int, workers: int) -> OverviewAnswer:
    worker = WorkerAnswer(worker_id=HOSTILE, incarnation=1, agent_node_id=HOSTILE, alive=False, last_seen_ms=31_000)
    recent = RecentLagAnswer(
        window_s=60, point_s=2, points=[None] * 29 + [1.0],
        ack_lag=AckLagAnswer(received=LAG, stopped=LAG), sampled=False,
    )  # fmt: skip
    return OverviewAnswer(
        open=cancels, overdue=cancels, outstanding=cancels, oldest_age_ms=65_000, causes={"worker_lost": cancels},
        recent=recent, cancellations=[cancel(one) for one in range(cancels)], workers_alive=0,
        workers_silent=workers, held=0, workers=[worker] * workers, truncated=True,
    )  # fmt: skip


def test_a_frame_fits_80_by_24_however_much_there_is() -> None:
    lines: list[str] = []
    for cancels, workers in ((0, 0), (1, 1), (100, 0), (0, 100), (100, 100)):
        lines = top_lines(overview(cancels, workers), "http://x", Paint(), width=80, height=24)
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        assert all(line.isprintable() for line in lines)
    assert lines[3] == "workers: 0 alive, 100 silent, holding 0"
    assert sum("overdue" in line for line in lines[5:]) >= 8
    assert sum("silent" in line for line in lines[5:]) >= 5


def test_more_workers_than_are_counted_are_said_to_be_more() -> None:
    seen = overview(0, 1).model_copy(update={"workers_alive": 990, "workers_silent": 10})
    assert "workers: 990 alive, 10 silent or more, holding 0" in top_lines(seen, "x", Paint(), width=80, height=24)


def test_a_wide_window_shows_the_names_whole() -> None:
    seen = overview(0, 1)
    named = seen.model_copy(update={"workers": [seen.workers[0].model_copy(update={"worker_id": "w" * 50})]})
    assert any("w" * 50 in line for line in top_lines(named, "http://x", Paint(), width=120, height=24))
    assert any("w" * 27 + "~" in line for line in top_lines(named, "http://x", Paint(), width=80, height=24))


def test_a_small_window_has_what_matters() -> None:
    lines = top_lines(overview(3, 3), "http://x", Paint(), width=40, height=3)
    assert lines[1].startswith("3 open cancels or more, 3 overdue;")
    assert len(lines) == 3


def test_the_sparkline_rises_with_each_power_of_ten_and_is_blank_where_nobody_was_heard() -> None:
    assert spark([None, 0.0, 0.1, 1.0, 10.0, 1e6, 1e12], Paint()) == " ▁▁▂▃██"
    assert spark([None, 0.1, 1e6], Paint(unicode=False)) == " .@"
