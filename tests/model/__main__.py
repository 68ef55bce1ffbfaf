"""The long run: `python -m tests.model [--world NAME] [--limit N]` explores every world and prints the figures."""

from __future__ import annotations

import argparse
import sys

from tests.model.explorer import Violation, explore
from tests.model.game import Game
from tests.model.rules import table
from tests.model.worlds import BY_NAME, WORLDS


def main() -> int:
    """Prints one line a world; answers 1 where an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--world", choices=sorted(BY_NAME), help="only this one")
    parser.add_argument("--limit", type=int, default=1_000_000, help="states of one world (default 1,000,000)")
    parser.add_argument("--rules", action="store_true", help="only print the table of rules and mutants")
    given = parser.parse_args()
    if given.rules:
        print(table())
        return 0
    print(f"{'world':42} {'states':>9} {'transitions':>11} {'fair ends':>9} {'scripts':>8} {'seconds':>8}")
    broken = 0
    for world in [BY_NAME[given.world]] if given.world else WORLDS:
        try:
            seen = explore(Game(world), given.limit)
        except Violation as violation:
            print(f"{world.name}: {violation}", file=sys.stderr)
            broken = 1
            continue
        whole = "" if seen.complete else "  (stopped at the limit)"
        print(
            f"{world.name:42} {seen.states:9,} {seen.transitions:11,} {seen.ends:9,} {seen.calls:8,}"
            f" {seen.seconds:8.1f}{whole}", flush=True,
        )  # fmt: skip
    return broken


if __name__ == "__main__":
    sys.exit(main())
