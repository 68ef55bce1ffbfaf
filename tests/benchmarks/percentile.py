"""Percentiles of a sample, by nearest rank: a value that was measured, never one between two."""

import math
from collections.abc import Sequence


def percentile(sample: Sequence[float], percent: float) -> float:
    ordered = sorted(sample)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def p50_p99_ms(durations_ns: Sequence[int]) -> dict[str, float]:
    return {"p50": percentile(durations_ns, 50) / 1e6, "p99": percentile(durations_ns, 99) / 1e6}
