"""Everything that is known of one execution: each line of each file of the round, and what Redis had of its run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.chaos.check import Finding
from tests.chaos.facts import read_facts
from tests.chaos.truth import Line, read_lines

EVERYWHERE = frozenset({"fault", "over", "killing", "died", "stopped", "continued", "replacing", "process"})
"""Words of the fleet that may matter for any execution."""


def trace(folder: Path, finding: Finding) -> Iterator[str]:
    """Lines for people, in the order of time."""
    yield f"{finding.verdict}: {finding.subject} of {finding.run_id}: {finding.text}"
    lines = sorted((line for line in read_lines(folder) if _concerns(line, finding)), key=lambda line: line.at_us)
    yield from (f"  {line.show()}" for line in lines)
    run = read_facts(folder).get(finding.run_id)
    if run is None:
        yield "  broker: no such run"
        return
    if finding.subject in run.executions:
        yield f"  broker: {json.dumps(asdict(run.executions[finding.subject]))}"
        yield f"  named: {run.named.get(finding.subject)}"
    yield from (f"  operation: {json.dumps(asdict(one))}" for one in run.operations)
    yield from (f"  log: {entry}" for entry in run.log)


def _concerns(line: Line, finding: Finding) -> bool:
    if line.word in EVERYWHERE:
        return True
    return any(
        isinstance(word, str) and (word in (finding.subject, finding.run_id) or word.startswith(f"{finding.subject}."))
        for word in line.rest
    )
