"""`python -m tests.benchmarks`: floors and figures on a real Redis, worker processes, a table, and JSON where asked."""

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from redis import Redis

from tests.benchmarks.comparison import Case, measure_rounds
from tests.benchmarks.machine import describe
from tests.benchmarks.plan import plan
from tests.benchmarks.table import as_json, as_table
from tests.support.redis_server import RedisServer

ROUNDS, SHORT_ROUNDS = 5, 2
AS_DEPLOYED = ("--client-output-buffer-limit", "pubsub 256mb 64mb 120")  # deploy/redis/redis.conf


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="2 rounds, smaller n, no run of 100,000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result, every round of it, to this file")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases whose name begins so: idle, cancel-1000, life")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default {ROUNDS}, with --short {SHORT_ROUNDS}")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (SHORT_ROUNDS if chosen.short else ROUNDS)
    return chosen


def main() -> int:
    """0: everything was measured, whether targets are met or missed. 1: something failed. 2: usage."""
    chosen = options()
    cases, rows = plan(short=chosen.short)
    if chosen.only:
        wanted = _only(cases, chosen.only)
        measurements = {side.name for case in wanted for side in (case.floor, case.figure)}
        cases = wanted
        rows = [row for row in rows if {row.figure.partition(".")[0], row.floor.partition(".")[0]} <= measurements]
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    with RedisServer(options=AS_DEPLOYED) as server, Redis.from_url(server.url) as client:
        machine = describe(client)
        rounds = asyncio.run(measure_rounds(cases, server.url, chosen.rounds, client.flushall, _say))
    head = {"started_at": started_at, "short": chosen.short, "rounds": chosen.rounds, "machine": machine}
    print("  ".join(f"{key}={value}" for key, value in machine.items()), end="\n\n")
    print(as_table(rows, rounds))
    for name, failure in rounds.failures.items():
        print(f"{name} failed: {failure}")
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps({**head, **as_json(rows, rounds)}, indent=1) + "\n")
    return 1 if rounds.failures else 0


def _only(cases: list[Case], names: list[str]) -> list[Case]:
    wanted = [case for case in cases if case.name.startswith(tuple(names))]
    if not wanted:
        raise SystemExit(f"--only {' '.join(names)}: no such case; there are {', '.join(case.name for case in cases)}")
    return wanted


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # everything that was started has ended by now
