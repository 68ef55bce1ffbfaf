"""What is measured, against what, and the targets (BENCH.md)."""

from collections.abc import Sequence
from functools import partial

from tests.benchmarks import (
    figure_cancel,
    figure_idle,
    figure_ingest,
    figure_life,
    floor_fanout,
    floor_hop,
    floor_life,
    floor_xadd,
)
from tests.benchmarks.comparison import Case, Measure, Measurement, Row

RUNS = (1_000, 10_000, 100_000)
SHORT_RUNS = (1_000, 10_000)
HOPS, SHORT_HOPS = 500, 100
LIVES, SHORT_LIVES = 2_000, 500
EVENTS, SHORT_EVENTS = 40_000, 10_000
AT_A_TIME = {1: 2.5, 32: 0.5}  # executions at a time → target


def plan(*, short: bool) -> tuple[list[Case], list[Row]]:
    hops = SHORT_HOPS if short else HOPS
    lives = SHORT_LIVES if short else LIVES
    runs = SHORT_RUNS if short else RUNS
    cases = [_case("idle", "F1", partial(floor_hop.measure, hops=hops), partial(figure_idle.measure, cancels=hops))]
    rows = [
        Row("one idle cancel, p50 / p50 of F1", "idle.p50", "F1.p50", hops, 3.0),
        Row("one idle cancel, p99 / p50 of F1", "idle.p99", "F1.p50", hops, 6.0),
        Row("one idle cancel, p99 / p99 of F1", "idle.p99", "F1.p99", hops, None),
    ]
    for n in runs:
        name, floor = f"cancel-{n}", f"F2({n})"
        floor_n, figure_n = partial(floor_fanout.measure, executions=n), partial(figure_cancel.measure, executions=n)
        cases.append(_case(name, floor, floor_n, figure_n))
        rows.append(Row(f"cancel a run of {n:,}, caller knows", f"{name}.confirmed", f"{floor}.confirmed", n, 1.5))
        rows.append(Row(f"cancel a run of {n:,}, last stop", f"{name}.last_stop", f"{floor}.confirmed", n, None))
    rows.append(_growth(runs))
    for at_a_time, target in AT_A_TIME.items():
        name, floor = f"life-{at_a_time}", f"F3({at_a_time})"
        floor_c = partial(floor_life.measure, at_a_time=at_a_time, lives=lives)
        figure_c = partial(figure_life.measure, at_a_time=at_a_time, lives=lives)
        cases.append(_case(name, floor, floor_c, figure_c))
        rows.append(
            Row(f"start + finish, {at_a_time} at a time", f"{name}.per_life", f"{floor}.per_life", lives, target)
        )
    ingest, row = _ingest(SHORT_EVENTS if short else EVENTS)
    return [*cases, ingest], [*rows, row]


def _ingest(number: int) -> tuple[Case, Row]:
    """Four times as fast is a quarter of the time."""
    floor, figure = partial(floor_xadd.measure, number=number), partial(figure_ingest.measure, number=number)
    row = Row("ingest one event, one replica", "ingest.per_event", "F4.per_event", number, 0.25)
    return _case("ingest", "F4", floor, figure), row


def _case(name: str, floor_name: str, floor: Measure, figure: Measure) -> Case:
    return Case(name, Measurement(floor_name, floor), Measurement(name, figure))


def _growth(runs: Sequence[int]) -> Row:
    small, large = min(runs), max(runs)
    name = f"cancel per execution, {large:,} against {small:,}"
    return Row(name, f"cancel-{large}.per_execution", f"cancel-{small}.per_execution", large, 1.3)
