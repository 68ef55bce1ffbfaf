"""What is measured, against what, and the targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tests.benchmarks import (
    figure_cancel,
    figure_idle,
    figure_ingest,
    figure_life,
    figure_memory,
    figure_standing,
    figure_walk,
    floor_fanout,
    floor_hop,
    floor_life,
    floor_memory,
    floor_standing,
    floor_xadd,
)
from tests.benchmarks.comparison import Case, Measure, Measurement, Row
from tests.benchmarks.forest import link_above

AT_A_TIME = {1: 2.5, 32: 0.5}  # executions at a time → target
HELD_IN_RUNS = (1, 1_000)
SEEN_BY_THE_TICK = 10_000  # executions: the kernel counts processor time in hundredths of a second
PEER_TARGETS = {100: 1 / 5, 1_000: 1 / 15}  # tasks → our time in that of the fastest contender that knows


@dataclass(frozen=True)
class Sizes:
    """How many of each; `standing` 0 leaves the idle state out."""

    hops: int = 500
    lives: int = 2_000
    runs: tuple[int, ...] = (1_000, 10_000, 100_000)
    chain: int = 100_000
    held: int = 10_000
    walked: int = 1_000_000
    standing: int = 10_000
    window_s: float = 20.0
    events: int = 40_000


SHORT = Sizes(
    hops=100, lives=500, runs=(1_000, 10_000), chain=1_000, held=2_000, walked=50_000, standing=0, events=10_000
)

Part = tuple[list[Case], list[Row]]


def plan(*, short: bool) -> Part:
    sizes = SHORT if short else Sizes()
    cases: list[Case] = []
    rows: list[Row] = []
    for part in (_idle, _cancels, _chain, _lives, _memory, _walk, _standing, _ingest):
        more_cases, more_rows = part(sizes)
        cases += more_cases
        rows += more_rows
    return cases, rows


def _case(name: str, figure: Measure, floor_name: str, floor: Measure) -> Case:
    return Case(name, Measurement(name, figure), Measurement(floor_name, floor))


def _idle(sizes: Sizes) -> Part:
    n = sizes.hops
    case = _case("idle", partial(figure_idle.measure, cancels=n), "F1", partial(floor_hop.measure, hops=n))
    return [case], [
        Row("one idle cancel, p50 / p50 of F1", "idle.p50", "F1.p50", n, 3.0),
        Row("one idle cancel, p99 / p50 of F1", "idle.p99", "F1.p50", n, 6.0),
        Row("one idle cancel, p99 / p99 of F1", "idle.p99", "F1.p99", n, None),
    ]


def _cancels(sizes: Sizes) -> Part:
    cases, rows = [], []
    for n in sizes.runs:
        name, floor = f"cancel-{n}", f"F2({n})"
        figure_n, floor_n = partial(figure_cancel.measure, executions=n), partial(floor_fanout.measure, executions=n)
        cases.append(_case(name, figure_n, floor, floor_n))
        rows.append(Row(f"cancel a run of {n:,}, caller knows", f"{name}.confirmed", f"{floor}.confirmed", n, 1.5))
        rows.append(Row(f"cancel a run of {n:,}, last stop", f"{name}.last_stop", f"{floor}.confirmed", n, None))
        if n >= SEEN_BY_THE_TICK:
            rows += _spent(n, name, floor)
    small, large = min(sizes.runs), max(sizes.runs)
    per = "per_execution"
    growth = f"cancel per execution, {large:,} against {small:,}"
    rows.append(Row(growth, f"cancel-{large}.{per}", f"cancel-{small}.{per}", large, 1.3))
    longest = f"longest script that Redis ran, its whole life, run of {large:,}"
    key = "longest_script"
    rows.append(Row(longest, f"cancel-{large}.{key}", f"F2({large}).{key}", large, 5.0, absolute=True))
    return cases, rows


def _spent(n: int, name: str, floor: str) -> list[Row]:
    """On two cores that are both busy the time that it takes is half of this."""
    parts = {"cpu": "all processes", "cpu_workers": "the workers", "cpu_redis": "Redis", "cpu_broker": "the broker"}
    head = f"processor time for each of {n:,}"
    return [Row(f"{head}: {what}", f"{name}.{key}", f"{floor}.{key}", n, None, "µs") for key, what in parts.items()]


def _chain(sizes: Sizes) -> Part:
    """Its floor is the figure of the bushy tree of the same size."""
    n = sizes.chain
    name = f"chain-{n}"
    measure = partial(figure_cancel.measure, executions=n, parent_of=link_above)
    row = Row(f"a chain {n:,} deep / a bushy tree", f"{name}.confirmed", f"cancel-{n}.confirmed", n, 2.0)
    return [Case(name, Measurement(name, measure))], [row]


def _lives(sizes: Sizes) -> Part:
    cases, rows = [], []
    n = sizes.lives
    for at_a_time, target in AT_A_TIME.items():
        name, floor = f"life-{at_a_time}", f"F3({at_a_time})"
        figure_c = partial(figure_life.measure, at_a_time=at_a_time, lives=n)
        floor_c = partial(floor_life.measure, at_a_time=at_a_time, lives=n)
        cases.append(_case(name, figure_c, floor, floor_c))
        rows.append(Row(f"start + finish, {at_a_time} at a time", f"{name}.per_life", f"{floor}.per_life", n, target))
    return cases, rows


def _memory(sizes: Sizes) -> Part:
    n = sizes.held
    figure, floor = partial(figure_memory.measure, executions=n), partial(floor_memory.measure, executions=n)
    bytes_row = partial(Row, n=n, unit="B", absolute=True)
    return [_case("memory", figure, "bare", floor)], [
        bytes_row("Redis memory, each held execution", "memory.redis_held", "bare.redis_held", target=700.0),
        bytes_row("Redis memory, each that has ended", "memory.redis_ended", "", target=None),
        bytes_row("worker memory, each held execution", "memory.worker_held", "bare.worker_held", target=6_144.0),
    ]


def _walk(sizes: Sizes) -> Part:
    n = sizes.walked
    figure, floor = partial(figure_walk.measure, executions=n), partial(figure_walk.measure_bare, executions=n)
    row = Row(f"the walk of {n:,} executions", "walk.walk", "bare walk.walk", n, 2_000.0, absolute=True)
    return [_case("walk", figure, "bare walk", floor)], [row]


def _standing(sizes: Sizes) -> Part:
    n, window_s = sizes.standing, sizes.window_s
    if not n:
        return [], []
    cases: list[Case] = []
    rows: list[Row] = []
    floor = partial(floor_standing.measure, executions=n, window_s=window_s)
    for runs in HELD_IN_RUNS:
        name, bare = f"standing-{runs}", f"bare standing {runs}"
        figure = partial(figure_standing.measure, executions=n, runs=runs, window_s=window_s)
        cases.append(_case(name, figure, bare, floor))
        rows += _both_sides(f"{n:,} held in {runs:,} run{'s' if runs > 1 else ''}", name, bare, n)
    return cases, rows


def _both_sides(held: str, name: str, bare: str, n: int) -> Sequence[Row]:
    return [
        Row(f"{held}, idle: {side}", f"{name}.{key}", f"{bare}.{key}", n, 2.0, unit="% of a core", absolute=True)
        for side, key in (("worker", "worker"), ("Redis", "redis"))
    ]


def _ingest(sizes: Sizes) -> Part:
    """Target: four times what one client can append on its own."""
    n = sizes.events
    figure, floor = partial(figure_ingest.measure, number=n), partial(floor_xadd.measure, number=n)
    row = Row("ingest one event, one replica", "ingest.per_event", "F4.per_event", n, 0.25)
    return [_case("ingest", figure, "F4", floor)], [row]
