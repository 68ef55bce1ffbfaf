"""The contenders side by side, from the JSON of a run: text for a terminal, and rows for the README."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.comparison import Spread
from tests.benchmarks.peers.scene import PLAIN

HEADINGS = ("contender", "N", "last stop ms (min–max)", "caller knows ms (min–max)", "n", "confirmed", "while running")
WRONG_HEADINGS = ("contender", "connection dropped", "worker dead, back 18 s later")


@dataclass(frozen=True)
class Side:
    """One contender, one N, the plain scene, all rounds. `knows` is None where in some round it did not know of all."""

    name: str
    tasks: int
    last_stop: Spread | None
    knows: Spread | None
    rounds: int
    confirmed: str
    false: str
    failure: str


def sides(peers: Mapping[str, Any]) -> list[Side]:
    """In the order in which they were played."""
    plain = [one for one in peers["played"] if one["scene"] == PLAIN.name]
    keys = list(dict.fromkeys((name_of(one), one["tasks"]) for one in plain))
    return [_side(*key, [one for one in plain if (name_of(one), one["tasks"]) == key]) for key in keys]


def name_of(one: Mapping[str, Any]) -> str:
    return f"{one['contender']} ({one['variant']})" if one["variant"] else str(one["contender"])


def _side(name: str, tasks: int, played: Sequence[Mapping[str, Any]]) -> Side:
    ends = [one["outcome"] for one in played if one["outcome"]]
    knows = [end["knows_ms"] for end in ends]
    false = sum(end["false"] for end in ends)
    by_ms = max([end["false_by_ms"] for end in ends], default=0.0)
    return Side(
        name=name,
        tasks=tasks,
        last_stop=Spread.of([end["last_stop_ms"] for end in ends if end["last_stop_ms"] is not None]),
        knows=Spread.of(knows) if None not in knows else None,
        rounds=len(ends),
        confirmed=f"{min([end['confirmed'] for end in ends], default=0)} of {tasks}",
        false=f"{false}, by up to {by_ms:.0f} ms" if false else "0",
        failure=next((one["failure"] for one in played if one["failure"]), ""),
    )


def side_rows(peers: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            side.name,
            f"{side.tasks:,}",
            spread_text(side.last_stop) if not side.failure else f"failed: {side.failure}",
            spread_text(side.knows),
            str(side.rounds),
            side.confirmed,
            side.false,
        )
        for side in sides(peers)
    ]


def spread_text(spread: Spread | None) -> str:
    return f"{spread.median:,.0f} ({spread.min:,.0f}–{spread.max:,.0f})" if spread else "never"


def wrong_rows(peers: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What the caller got, and what became of the tasks, where something went wrong."""
    wrong = [one for one in peers["played"] if one["scene"] in ("drop", "dead")]
    names = list(dict.fromkeys(name_of(one) for one in wrong))
    return [
        (name, *(_went(next((one for one in wrong if (name_of(one), one["scene"]) == (name, scene)), None))
                 for scene in ("drop", "dead")))
        for name in names
    ]  # fmt: skip


def _went(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "no Redis"
    if one["failure"]:
        return f"failed: {one['failure']}"
    return "; ".join(_story(one["outcome"], one["scene"]))


def _story(end: Mapping[str, Any], scene: str) -> Iterator[str]:
    said = ", ".join(f"{text} ×{count}" for text, count in end["says"].items())
    after = f" after {end['knows_ms'] / 1_000:.1f} s" if end["knows_ms"] is not None else ""
    yield f"told: {said}{after}"
    if end["false"]:
        yield f"{end['false']} confirmed while running"
    if end["ran_again"] or scene == "dead":
        yield f"{end['ran_again'] or 'none'} ran again"
    if end["still_running"]:
        yield f"{end['still_running']} of {end['tasks']} never stopped"
    elif scene == "drop":
        yield f"all stopped after {end['last_stop_ms']:,.0f} ms"


def verdicts(peers: Mapping[str, Any], ours: str, targets: Mapping[int, float]) -> list[str]:
    """Ours beside the fastest of those that ever know of all, for each N."""
    lines = []
    for tasks, target in targets.items():
        known = {side.name: side.knows.median for side in sides(peers) if side.tasks == tasks and side.knows}
        own = known.pop(ours, None)
        if own is None or not known:
            lines.append(f"N={tasks:,}: not measured")
            continue
        best = min(known, key=lambda name: known[name])
        ratio = own / known[best]
        met = "met" if ratio <= target else f"missed, {ratio / target:.1f} times too slow"
        lines.append(
            f"N={tasks:,}: {own:.0f} ms beside {known[best]:.0f} ms of {best}, the fastest that knows: "
            f"1/{1 / ratio:.1f}, target 1/{1 / target:g}: {met}"
        )
    return lines


def as_text(peers: Mapping[str, Any]) -> Iterator[str]:
    yield columns([HEADINGS, *side_rows(peers)])
    yield columns([WRONG_HEADINGS, *wrong_rows(peers)])
    yield "what `knows` means, and which versions:\n" + "\n".join(
        f"  {name}: {text} ({', '.join(f'{a} {b}' for a, b in peers['versions'].get(name, {}).items())})"
        for name, text in peers["knows"].items()
    )
    left_out = [f"  {name}: {why}" for name, why in peers["not_tried"].items()]
    left_out += [f"  {one['contender']}: {one['failure']}" for one in peers["played"] if one["scene"] == "install"]
    if left_out:
        yield "not measured:\n" + "\n".join(left_out)


def columns(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
