"""The result: as a table for people, as JSON for the picture in the README."""

from collections.abc import Sequence
from dataclasses import asdict

from tests.benchmarks.comparison import Rounds, Row, Spread

HEADINGS = ("figure", "ratio", "min–max", "target", "", "n", "figure ms (min–max)", "floor", "floor ms (min–max)")


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
        f"{ratio.median:.2f}" if ratio else "not measured",
        f"{ratio.min:.2f}–{ratio.max:.2f}" if ratio else "",
        f"≤ {row.target:g}" if row.target is not None else "",
        verdict(row, rounds),
        f"{row.n:,}",
        _milliseconds(rounds.samples(row.figure)),
        row.floor,
        _milliseconds(rounds.samples(row.floor)),
    )


def verdict(row: Row, rounds: Rounds) -> str:
    """met or missed, by the median; empty where there is no target or nothing was measured."""
    ratio = Spread.of(rounds.ratios(row))
    if ratio is None or row.target is None:
        return ""
    return "met" if ratio.median <= row.target else "missed"


def _milliseconds(samples: Sequence[float]) -> str:
    spread = Spread.of(samples)
    return f"{spread.median:.4g} ({spread.min:.4g}–{spread.max:.4g})" if spread else "–"


def as_json(rows: Sequence[Row], rounds: Rounds) -> dict[str, object]:
    return {
        "rows": [
            {
                **asdict(row),
                "verdict": verdict(row, rounds),
                "ratio": _spread(rounds.ratios(row)),
                "figure_ms": _spread(rounds.samples(row.figure)),
                "floor_ms": _spread(rounds.samples(row.floor)),
            }
            for row in rows
        ],
        "failures": rounds.failures,
        "rounds": rounds.taken,
    }


def _spread(samples: Sequence[float]) -> dict[str, float] | None:
    spread = Spread.of(samples)
    return asdict(spread) if spread else None
