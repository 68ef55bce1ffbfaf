"""The texts of the demo, for the terminal and for plain lines alike: ASCII only, so that any output takes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from broker.cancel.report import CancelReport, Lag
from broker.cli.demo.directory import Count, Root, shown
from broker.cli.demo.fleet import Member
from broker.cli.demo.tree import Node, Tree
from broker.protocol.states import Cause, Disposition

NAMED_AT_MOST = 3
MEANINGS = {
    "status": "what was decided; `cancelled` at once, and final",
    "disposition": "what really happened; told apart, because a decision stops nothing",
    "settled": "an end that its holder has proved; only then is a slot, lock or budget free",
    "the gate": "closes before anything is told: whatever is spawned from then on is refused",
    "ack lag": "from the cancel message to the worker's answer, by Redis's clock",
}


@dataclass(frozen=True, slots=True)
class Scene:
    """Who plays in this demo, and where."""

    root: Root
    total: Count
    tree: Tree
    members: list[Member]
    redis_url: str
    embedded: bool


class Row(NamedTuple):
    """One line of the report's first table."""

    word: str
    executions: int
    meaning: str


def number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def opening(scene: Scene) -> list[str]:
    """What is about to be done, with whom, where."""
    more = "" if scene.total.complete else "more than "
    pids = ", ".join(str(member.pid) for member in scene.members)
    where = f"{scene.redis_url} ({'embedded: gone when this ends' if scene.embedded else 'yours'})"
    lines = [
        f"job    sha256 of every file below {shown(scene.root.path)}"
        f" ({more}{number(scene.total.directories, 'directory', 'directories')}, {number(scene.total.files, 'file')})",
        f"fleet  {len(scene.members)} worker processes (pid {pids}) on {where}",
        f"run    {scene.tree.run_id}: one execution per directory, spawned as the crawl finds them",
    ]
    if (command := scene.tree.command) is not None:
        lines.append(
            f"also   {place(command)}: a command as an execution; it compresses the files, and ignores SIGTERM"
        )
    return lines


def place(node: Node) -> str:
    """A directory by its path, as it can be printed anywhere."""
    path = shown(node.relative).encode("ascii", "replace").decode() or "."
    return path if len(path) <= 60 else f"...{path[-57:]}"


def size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e3:,.0f} kB"


def share(tree: Tree, total: Count) -> str:
    """How far the crawl is, in percent of the files."""
    return f" ({tree.hashed / total.files:.0%})" if total.complete and total.files else ""


def progress(scene: Scene) -> str:
    tree, total = scene.tree, scene.total
    return (
        f"{tree.hashed:,} of {number(total.files, 'file')} hashed{share(tree, total)}, {size(tree.size)};"
        f" {number(len(tree.nodes), 'execution')}, {tree.in_flight} of them in flight"
    )


def asking(tree: Tree, total: Count, why: str) -> str:
    levels = len({node.depth for node in tree.nodes.values() if node.job.in_flight})
    return (
        f"cancel in mid-flight: {why}, {number(tree.hashed, 'file')}{share(tree, total)};"
        f" {number(tree.in_flight, 'execution')} in flight on {number(levels, 'level')}"
    )


def still_running(node: Node) -> str:
    cause = Cause(node.cause).meaning if node.cause else "it is about to be told"
    overdue = ", overdue" if node.overdue else ""
    told = f"told {node.age_s:.1f} s ago{overdue}"
    return f"still running: {place(node)} on {node.worker or 'no worker'}: {node.cause or 'asked'} ({cause}), {told}"


def still_running_count(nodes: list[Node]) -> str:
    causes = Counter(node.cause or "not told yet" for node in nodes)
    return f"still running: {len(nodes)} executions ({', '.join(f'{n} {cause}' for cause, n in causes.most_common())})"


def disposition_rows(report: CancelReport) -> list[Row]:
    """What became of everything that was cancelled, as the broker counts it."""
    return [
        Row(str(word), count, word.meaning) for word in Disposition if (count := report.dispositions.get(str(word), 0))
    ]


def lag_rows(report: CancelReport) -> list[tuple[str, Lag]]:
    return [("received", report.ack_lag.received), ("stopped", report.ack_lag.stopped)]


def verdict(report: CancelReport, tree: Tree) -> list[str]:
    """The report in sentences."""
    if not report.totals.cancelled:
        return ["the job had ended before the cancel reached it: there was nothing left to stop"]
    took_s = ((report.settled_at or report.requested_at) - report.requested_at).total_seconds()
    lines = [
        f"settled in {took_s:.2f} s: every execution that was running is proved stopped, none is unaccounted for"
        if report.settled
        else f"NOT settled: still running {report.totals.still_running} of {report.totals.cancelled}"
    ]
    lines.append(f"{number(tree.refused_at_gate, 'spawn was', 'spawns were')} refused at the closed gate")
    swallowed = [one for one in tree.nodes.values() if one.swallows and one.disposition is Disposition.ENDED_ITSELF]
    lines += [
        f"{place(one)} swallowed its cancel, was named as still running, and ended by itself" for one in swallowed
    ]
    if (command := tree.command) is not None and command.disposition is Disposition.KILLED:
        lines.append(f"{place(command)} ignored SIGTERM, was named as still running, and was ended by force (SIGKILL)")
    return lines


def totals(report: CancelReport) -> str:
    one = report.totals
    return (
        f"{one.executions} executions: {one.cancelled} cancelled, {one.skipped} had ended before, {one.errors} errors;"
        f" {one.settled} settled, {one.still_running} still running"
    )
