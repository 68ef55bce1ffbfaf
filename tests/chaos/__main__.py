"""`python -m tests.chaos`: a fleet on a real Redis under faults, and what it really did beside what the broker says.

Exit codes: 0 nothing lost and no wrong claim · 1 otherwise, with the trace of each · 2 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.chaos.check import Finding
from tests.chaos.figures import as_text
from tests.chaos.round import Settings, judge, play
from tests.chaos.trace import trace
from tests.chaos.truth import read_lines

TRACED = 5


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long work and faults last (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="fixes the plan and the schedule of faults (default 1)")
    parser.add_argument("--workers", type=int, default=4, help="default 4; every other one has a stable id")
    parser.add_argument("--controls", type=int, default=2, help="control-plane processes (default 2)")
    parser.add_argument("--rate", type=float, default=100.0, help="executions a second that are due (default 100)")
    parser.add_argument("--heartbeat", type=float, default=1.0, help="seconds between two (default 1; TTL 4 times)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave every file of the round here")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="judge a round that was kept, and play none")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    if chosen.check:
        return report(chosen.check, chosen.json)
    settings = Settings(
        chosen.seed, chosen.minutes * 60, chosen.workers, chosen.controls, chosen.rate, chosen.heartbeat
    )
    if chosen.keep:
        chosen.keep.mkdir(parents=True)
        asyncio.run(play(settings, chosen.keep.resolve()))
        return report(chosen.keep, chosen.json)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        asyncio.run(play(settings, Path(folder)))
        return report(Path(folder), chosen.json)


def report(folder: Path, json_file: Path | None) -> int:
    """Prints the figures, then the trace of what is wrong."""
    figures, findings = judge(folder)
    settings = json.loads((folder / "settings.json").read_text())
    say("  ".join(f"{name}={value}" for name, value in settings.items()))
    say(as_text(figures))
    for finding in _worst(findings):
        say("", *trace(folder, finding))
    if not figures.good:
        for line in read_lines(folder):
            if line.word == "surprise":
                say(line.show())
        for crash in json.loads((folder / "crashes.json").read_text()):
            say(f"crash: {crash}")
    if json_file:
        json_file.write_text(json.dumps({"settings": settings, **figures.as_json()}, indent=1) + "\n")
    return 0 if figures.good else 1


def _worst(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict != "apart"][:TRACED]


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
