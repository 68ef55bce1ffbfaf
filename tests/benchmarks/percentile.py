"""Percentiles of a sample, by nearest rank: a value that was measured, never one between two."""

import math
from collections.abc import Sequence

DRAWN = (1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
"""The percentiles that a distribution is drawn from."""


def percentile(sample: Sequence[float], percent: float) -> float:
    ordered = sorted(sample)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread_ms(name: str, durations_ns: Sequence[int]) -> dict[str, float]:
    """The distribution as keys `name:percent`. These are kept for the picture and not printed."""
    ordered = sorted(durations_ns)
    return {f"{name}:{percent}": percentile(ordered, percent) / 1e6 for percent in DRAWN}


def p50_p99_ms(durations_ns: Sequence[int]) -> dict[str, float]:
    both = {"p50": percentile(durations_ns, 50) / 1e6, "p99": percentile(durations_ns, 99) / 1e6}
    return both | spread_ms("lag", durations_ns)
