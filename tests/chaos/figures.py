"""Pure: a round → its figures, as lines for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from tests.benchmarks.percentile import percentile
from tests.chaos.check import Finding
from tests.chaos.facts import RunFacts
from tests.chaos.history import History

PERCENTS = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class Figures:
    """`executions` counts bodies that began. `lost_claims_on_living` has those, too, that were taken back.

    `settle_s` is of operations that are settled, by percentile. What is still open gives no sample there: it is in
    `open_operations`, and named in `stragglers` by cause.
    """

    executions: int
    recorded: int
    cancels_accepted: int
    operations: int
    open_operations: int
    faults: Mapping[str, int]
    dispositions: Mapping[str, int]
    lost: int
    wrong: int
    apart: int
    lost_claims_on_living: int
    surprises: int
    crashes: int
    stragglers: Mapping[str, int]
    settle_s: Mapping[str, float]

    @property
    def good(self) -> bool:
        return not (self.lost or self.wrong or self.surprises or self.crashes)

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "good": self.good}


def figures_of(
    history: History,
    facts: Mapping[str, RunFacts],
    findings: Sequence[Finding],
    faults: Mapping[str, int],
    crashes: Sequence[str],
) -> Figures:
    operations = [one for run in facts.values() for one in run.operations]
    verdicts = Counter(finding.verdict for finding in findings)
    took_s = [(one.settled_us - one.requested_us) / 1e6 for one in operations if one.settled_us]
    living = sum(finding.verdict == "apart" and ": lost of" in finding.text for finding in findings)
    said = [one for run in facts.values() for one in run.executions.values()]
    named = {(run.run_id, one): cause for run in facts.values() for one, cause in run.named.items()}
    return Figures(
        executions=sum(map(len, history.bodies.values())),
        recorded=len(said),
        cancels_accepted=len(history.promises),
        operations=len(operations),
        open_operations=sum(one.open for one in operations),
        faults=dict(sorted(faults.items())),
        dispositions=dict(Counter(one.disposition for one in said if one.disposition).most_common()),
        lost=verdicts["lost"],
        wrong=verdicts["wrong"],
        apart=verdicts["apart"],
        lost_claims_on_living=living + _taken_back(facts),
        surprises=len(history.surprises),
        crashes=len(crashes),
        stragglers=dict(Counter(named.values()).most_common()),
        settle_s={f"p{percent}": round(percentile(took_s, percent), 3) for percent in PERCENTS} if took_s else {},
    )


def _taken_back(facts: Mapping[str, RunFacts]) -> int:
    """Losses that the holder itself contradicted: its word stands instead, and the audit log has it."""
    return sum(" event ghost " in entry for run in facts.values() for entry in run.log)


def as_text(figures: Figures) -> str:
    settle = "  ".join(f"{name} {value:g} s" for name, value in figures.settle_s.items()).replace("p100", "max")
    rows = {
        "executions": f"{figures.executions:,} bodies began, {figures.recorded:,} recorded",
        "cancels": f"{figures.cancels_accepted:,} accepted, {figures.operations:,} operations",
        "faults": f"{sum(figures.faults.values()):,}: {_counts(figures.faults)}",
        "dispositions": _counts(figures.dispositions),
        "lost": f"{figures.lost}",
        "wrong claims": f"{figures.wrong}",
        "apart": f"{figures.apart}; `lost` was said of a living body: {figures.lost_claims_on_living}",
        "surprises": f"{figures.surprises} unexpected errors, {figures.crashes} crashes",
        "stragglers named": f"{figures.open_operations} operations open; {_counts(figures.stragglers) or 'none'}",
        "time to settle": settle or "nothing settled",
    }
    return "\n".join(f"{name:<17} {value}" for name, value in rows.items())


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
