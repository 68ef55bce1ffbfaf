"""`python -m tests.benchmarks`: floors and figures on a real Redis, worker processes, a table, and JSON where asked."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis

from tests.benchmarks import million, report
from tests.benchmarks.comparison import Case, measure_rounds
from tests.benchmarks.machine import describe
from tests.benchmarks.peers import installs
from tests.benchmarks.peers import rounds as side_by_side
from tests.benchmarks.peers import table as peers_table
from tests.benchmarks.plan import PEER_TARGETS, plan
from tests.benchmarks.table import as_json, as_table
from tests.support.redis_server import RedisServer

ROUNDS, SHORT_ROUNDS, PEER_ROUNDS = 5, 2, 3
AS_DEPLOYED = ("--client-output-buffer-limit", "pubsub 256mb 64mb 120")  # deploy/redis/redis.conf
OURS = "this project"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    add = parser.add_argument
    add("--all", action="store_true", help="the figures, the contenders side by side, the million: unattended")
    add("--short", action="store_true", help="2 rounds, smaller n, no run of 100,000")
    add("--json", type=Path, metavar="FILE", help="write what was measured, every round of it, to its section here")
    add("--only", nargs="+", metavar="NAME", help="cases whose name begins so: idle, cancel-1000, life")
    add("--rounds", type=int, metavar="N", help=f"default {ROUNDS}, with --short {SHORT_ROUNDS}, peers {PEER_ROUNDS}")
    add(
        "--peers",
        nargs="*",
        metavar="NAME",
        help="the same work done by others, each in a virtual environment made here",
    )
    add("--tasks", nargs="+", type=int, metavar="N", help="with --peers, default 100 1000")
    add(
        "--venvs",
        type=Path,
        metavar="DIR",
        default=installs.default_folder(),
        help="where these are (default %(default)s)",
    )
    add("--million", action="store_true", help="only this: 1,000,000 executions, with the memory of each process")
    add("--executions", type=int, metavar="N", default=million.EXECUTIONS, help="with --million")
    return parser.parse_args()


def main() -> int:
    """0: everything was measured, whether targets are met or missed. 1: something failed. 2: usage."""
    chosen = options()
    failed = 0
    if chosen.all or not (chosen.million or chosen.peers is not None):
        failed |= _section(chosen, "figures", _figures)
    if chosen.peers is not None or chosen.all:
        failed |= _section(chosen, "peers", _peers)
    if chosen.million or chosen.all:
        failed |= _section(chosen, "million", _million)
    return failed


Measured = tuple[dict[str, Any], str, bool]  # the section, the text to print, whether something of ours failed


def _section(
    chosen: argparse.Namespace, name: str, measure: Callable[[argparse.Namespace, str, Redis], Measured]
) -> int:
    started_at = datetime.now(UTC)
    with RedisServer(options=AS_DEPLOYED) as server, Redis.from_url(server.url) as client:
        machine = describe(client)
        section, text, failed = measure(chosen, server.url, client)
    took_s = round((datetime.now(UTC) - started_at).total_seconds())
    head = {"started_at": started_at.isoformat(timespec="seconds"), "took_s": took_s, "machine": machine}
    print("  ".join(f"{key}={value}" for key, value in {**machine, "took_s": took_s}.items()), end="\n\n")
    print(text, end="\n\n", flush=True)
    if chosen.json:
        report.write(chosen.json, name, {**head, **section})
    return int(failed)


def _figures(chosen: argparse.Namespace, url: str, client: Redis) -> Measured:
    rounds_wanted = chosen.rounds or (SHORT_ROUNDS if chosen.short else ROUNDS)
    cases, rows = plan(short=chosen.short)
    if chosen.only:
        wanted = _only(cases, chosen.only)
        measurements = {side.name for case in wanted for side in case.sides}
        cases = wanted
        rows = [row for row in rows if row.measurements <= measurements]
    rounds = asyncio.run(measure_rounds(cases, url, rounds_wanted, client.flushall, _say))
    failures = [f"{name} failed: {failure}" for name, failure in rounds.failures.items()]
    text = "\n".join([as_table(rows, rounds), *failures])
    return {"short": chosen.short, "rounds_wanted": rounds_wanted, **as_json(rows, rounds)}, text, bool(failures)


def _only(cases: list[Case], names: list[str]) -> list[Case]:
    wanted = [case for case in cases if case.name.startswith(tuple(names))]
    if not wanted:
        raise SystemExit(f"--only {' '.join(names)}: no such case; there are {', '.join(case.name for case in cases)}")
    return wanted


def _peers(chosen: argparse.Namespace, url: str, client: Redis) -> Measured:
    """A contender that fails is a result; only our own failure is one of the command."""
    sizes = chosen.tasks or (side_by_side.SHORT_SIZES if chosen.short else side_by_side.SIZES)
    programme = side_by_side.prepare(side_by_side.modules(chosen.peers or ()), sizes, chosen.venvs, _say)
    rounds_wanted = chosen.rounds or (1 if chosen.short else PEER_ROUNDS)
    played = asyncio.run(side_by_side.play_rounds(programme, url, rounds_wanted, client.flushall, _say))
    section = side_by_side.as_json(programme, played)
    compared = peers_table.verdicts(section, OURS, {n: PEER_TARGETS[n] for n in sizes if n in PEER_TARGETS})
    failed = any(one.failure for one in played if one.contender == OURS)
    return section, "\n\n".join([*peers_table.as_text(section), *compared]), failed


def _million(chosen: argparse.Namespace, url: str, client: Redis) -> Measured:
    try:
        section = asyncio.run(million.measure(url, chosen.executions, _say))
    except Exception as error:  # noqa: BLE001 - it is reported as failed, and what was measured before it is kept
        section = {"failure": f"{type(error).__name__}: {error}"}
    return section, million.as_text(section), "failure" in section


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # everything that was started has ended by now
