"""The result: as a table for people, as JSON for the picture in the README."""

from collections.abc import Sequence
from dataclasses import asdict

from tests.benchmarks.comparison import Rounds, Row, Spread

HEADINGS = ("figure", "ratio", "min–max", "target", "", "n", "figure (min–max)", "floor", "floor (min–max)")


def as_table(rows: Sequence[Row], rounds: Rounds) -> str:
    lines = [HEADINGS, *(_line(row, rounds) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _line(row: Row, rounds: Rounds) -> tuple[str, ...]:
    ratio = Spread.of(rounds.ratios(row))
    return (
        row.name,
        f"{ratio.median:.2f}" if ratio else "" if row.absolute else "not measured",
        f"{ratio.min:.2f}–{ratio.max:.2f}" if ratio else "",
        target_text(row),
        verdict(row, rounds),
        f"{row.n:,}",
        _values(rounds.samples(row.figure), row.unit),
        row.floor,
        _values(rounds.samples(row.floor), row.unit),
    )


def target_text(row: Row) -> str:
    if row.target is None:
        return ""
    return f"≤ {row.target:,g} {row.unit}" if row.absolute else f"≤ {row.target:g}"


def verdict(row: Row, rounds: Rounds) -> str:
    """met, or missed and by how much, by the median; empty where there is no target or nothing was measured."""
    judged = Spread.of(rounds.judged(row))
    if judged is None or row.target is None:
        return ""
    return "met" if judged.median <= row.target else f"missed, {judged.median / row.target:.3g} × the target"


def _values(samples: Sequence[float], unit: str) -> str:
    spread = Spread.of(samples)
    return f"{_short(spread.median)} {unit} ({_short(spread.min)}–{_short(spread.max)})" if spread else "–"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(rows: Sequence[Row], rounds: Rounds) -> dict[str, object]:
    return {
        "rows": [
            {
                **asdict(row),
                "target_text": target_text(row),
                "verdict": verdict(row, rounds),
                "ratio": _spread(rounds.ratios(row)),
                "figure_values": _spread(rounds.samples(row.figure)),
                "floor_values": _spread(rounds.samples(row.floor)),
                "figure_text": _values(rounds.samples(row.figure), row.unit),
                "floor_text": _values(rounds.samples(row.floor), row.unit) if row.floor else "",
            }
            for row in rows
        ],
        "failures": rounds.failures,
        "rounds": rounds.taken,
    }


def _spread(samples: Sequence[float]) -> dict[str, float] | None:
    spread = Spread.of(samples)
    return asdict(spread) if spread else None
