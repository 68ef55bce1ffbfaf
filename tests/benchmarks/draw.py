"""`python -m tests.benchmarks.draw [FILE]`: the pictures and the README's figures, from a measure that was kept.

Measures nothing. Whatever section the file lacks is left out.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import million, report
from tests.benchmarks.chart import Axis, Chart, Point, Series
from tests.benchmarks.peers import table as peers_table
from tests.benchmarks.percentile import DRAWN
from tests.benchmarks.plan import PEER_TARGETS, Sizes
from tests.support.tree import ROOT

PICTURES = Path("tests/benchmarks/pictures")
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: written by python -m tests.benchmarks.draw -->", "<!-- end of figures -->"
OURS = "this project"


def main(source: Path) -> None:
    """Writes the pictures and the part of the README between the two marks."""
    kept = report.read(source)
    if not kept:
        raise SystemExit(f"{source}: nothing was measured")
    drawn = {name: chart for name, chart in (("confirmation", confirmation(kept)), ("lag", lag(kept))) if chart}
    (ROOT / PICTURES).mkdir(exist_ok=True)
    for name, chart in drawn.items():
        (ROOT / PICTURES / f"{name}.svg").write_text(chart.svg(), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    README.write_text(between_marks(text, "\n".join(_readme(kept, drawn))), encoding="utf-8")


def between_marks(text: str, new: str) -> str:
    """The text with what stands between the marks replaced. Raises ValueError where they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the README has no {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{new}\n{end}{after}"


def confirmation(kept: Mapping[str, Any]) -> Chart | None:
    """Until the caller knows, against N: ours, the floor, the others."""
    rounds = kept.get("figures", {}).get("rounds", [])
    sides = peers_table.sides(kept["peers"]) if "peers" in kept else []
    series = [
        _series("bare fan-out (floor)", _by_size(rounds, "F2({n}).confirmed"), "b dashed"),
        _series("this project", _own(rounds, sides), "a bold"),
        *_others(sides),
    ]
    series = [one for one in series if one.points]
    if not series:
        return None
    times = [point.y for one in series for point in one.points]
    sizes = [point.x for one in series for point in one.points]
    x = Axis("tasks that run when cancel is pressed", min([10.0, *sizes]), max(sizes))
    y = Axis("milliseconds until the caller knows", min(times) / 1.5, max(times) * 1.5)
    return Chart("From the cancel until the caller knows that all have stopped", x, y, series)


def lag(kept: Mapping[str, Any]) -> Chart | None:
    """From the call until each body has stopped: what percent of them, by when."""
    rounds = kept.get("figures", {}).get("rounds", [])
    wanted = [
        ("one PUBLISH", "F1.lag", "b dashed"),
        ("one idle cancel", "idle.lag", "a bold"),
        ("run of 1,000", "cancel-1000.stop", "c"),
        ("run of 10,000", "cancel-10000.stop", "d"),
        ("run of 100,000", "cancel-100000.stop", "a"),
    ]
    series = [
        Series(name, _distribution(rounds, key), look, named_at=DRAWN.index(25 if number == 0 else 50))
        for number, (name, key, look) in enumerate(wanted)
    ]
    series = [one for one in series if one.points]
    if not series:
        return None
    times = [point.x for one in series for point in one.points]
    x = Axis("milliseconds from the call until the body sees it", min(times) / 1.3, max(times) * 1.3)
    y = Axis("percent of the bodies", 0.0, 100.0, "%", ticks=(0, 25, 50, 75, 100))
    return Chart("When a cancel arrives", x, y, series)


def _distribution(rounds: Sequence[Mapping[str, float]], key: str) -> list[Point]:
    """Medians over the rounds."""
    found = {percent: _samples(rounds, f"{key}:{percent}") for percent in DRAWN}
    return [Point(median(samples), percent) for percent, samples in found.items() if samples]


def _samples(rounds: Sequence[Mapping[str, float]], key: str) -> list[float]:
    return [taken[key] for taken in rounds if key in taken]


def _by_size(rounds: Sequence[Mapping[str, float]], key: str) -> dict[int, list[float]]:
    sizes = {n: _samples(rounds, key.format(n=n)) for n in Sizes().runs}
    return {n: samples for n, samples in sizes.items() if samples}


def _own(rounds: Sequence[Mapping[str, float]], sides: Sequence[peers_table.Side]) -> dict[int, list[float]]:
    """The figures, and below their smallest N what was measured beside the others."""
    own = _by_size(rounds, "cancel-{n}.confirmed")
    beside = {one.tasks: one.knows for one in sides if one.name == OURS}
    known = {n: [knows.median, knows.min, knows.max] for n, knows in beside.items() if knows}
    return dict(sorted({**known, **own}.items()))


def _series(name: str, samples: Mapping[int, Sequence[float]], look: str) -> Series:
    return Series(name, [Point(n, median(some), min(some), max(some)) for n, some in samples.items()], look)


def _others(sides: Sequence[peers_table.Side]) -> Iterator[Series]:
    for name in dict.fromkeys(side.name for side in sides if side.name != OURS):
        known = [side for side in sides if side.name == name and side.knows]
        points = [Point(side.tasks, side.knows.median, side.knows.min, side.knows.max) for side in known if side.knows]
        yield Series(name, points, "c", label_left=len(points) == 1)


def _readme(kept: Mapping[str, Any], drawn: Mapping[str, Chart]) -> Iterator[str]:
    for name, chart in drawn.items():
        yield f"\n![{chart.title}]({PICTURES.as_posix()}/{name}.svg)"
    if "figures" in kept:
        yield f"\n{_where(kept['figures'], 'Figures')}\n"
        headings = ("figure", "measured (min–max)", "floor (min–max)", "ratio (min–max)", "target", "")
        yield from _markdown(headings, [_figure_row(row) for row in kept["figures"]["rows"]])
    if "million" in kept:
        yield f"\n{_where(kept['million'], 'A run of a million')}:\n\n```\n{million.as_text(kept['million'])}\n```"
    if "peers" in kept:
        yield from _peers(kept["peers"])


def _where(section: Mapping[str, Any], what: str) -> str:
    machine = section["machine"]
    rounds = f", medians of {len(section['rounds'])} rounds" if "rounds" in section else ""
    return (
        f"{what}: {machine['cores']} cores ({machine['cpu']}), load {machine['load_1_min']} at the start, "
        f"Redis {machine['redis_server']}, Python {machine['python']}, commit {machine['commit']}, "
        f"{section['started_at'][:10]}{rounds}"
    )


def _figure_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    ratio = row["ratio"]
    floor = f"{row['floor'].partition('.')[0]}: {row['floor_text']}" if row["floor"] else ""
    times = f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})" if ratio else ""
    return row["name"], row["figure_text"], floor, times, row["target_text"], row["verdict"]


def _peers(peers: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n{_where(peers, 'The same work done by others')}\n"
    yield from _markdown(peers_table.HEADINGS, peers_table.side_rows(peers))
    yield ""
    yield from (f"- {line}" for line in peers_table.verdicts(peers, OURS, PEER_TARGETS))
    yield ""
    yield from _markdown(peers_table.WRONG_HEADINGS, peers_table.wrong_rows(peers))
    yield "\nWhat each caller goes by:\n"
    for name, text in peers["knows"].items():
        versions = ", ".join(f"{what} {number}" for what, number in peers["versions"].get(name, {}).items())
        not_tried = f"; not tried with {peers['not_tried'][name]}" if name in peers["not_tried"] else ""
        yield f"- {name} ({versions or 'not installed'}): {text}{not_tried}"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else report.KEPT)
