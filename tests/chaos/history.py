"""Pure: the lines of the ground truth → the life of every body, of every process, and every promise that was made."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.truth import Line


@dataclass(slots=True)
class Body:
    """One body from its first line to its last. `ended_us` is infinite while it lives.

    `start` 0: a command, of which no number is known. A command's end is the last time at which it was seen alive,
    so it never looks longer than it was.
    """

    execution_id: str
    start: int
    where: str
    began_us: int
    ended_us: float = math.inf
    saw_us: int | None = None
    how: str = ""

    def ran_at(self, at_us: float) -> bool:
        return self.began_us <= at_us < self.ended_us


@dataclass(frozen=True, slots=True)
class Promise:
    """A cancel that was accepted, as the caller was answered."""

    run_id: str
    cancel_id: str
    scope: str
    target: str
    settled_us: int
    line: Line


@dataclass(slots=True)
class Process:
    """`replaced_us`: from then on a newer process could have its worker id, though it was alive."""

    where: str
    pid: int
    worker_id: str
    incarnation: int
    began_us: int
    died_us: float = math.inf
    replaced_us: float = math.inf


@dataclass(slots=True)
class History:
    bodies: defaultdict[str, list[Body]] = field(default_factory=lambda: defaultdict(list))
    promises: list[Promise] = field(default_factory=list)
    processes: dict[str, Process] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    surprises: list[Line] = field(default_factory=list)

    def was_replaced(self, body: Body, at_us: float) -> bool:
        """Its process had been taken for dead by then, and lived: a proof that was mistaken."""
        process = self.processes.get(body.where)
        return process is not None and process.replaced_us <= at_us


def run_of(execution_id: str) -> str:
    """Execution ids of the fleet begin with their run's."""
    return execution_id.partition(".")[0]


def read_history(lines: Iterable[Line]) -> History:
    """Lines may come file by file: only the order inside a file counts, and the stamps."""
    history = History()
    living: dict[tuple[str, str, int], Body] = {}
    ends: dict[str, dict[int, int]] = {"killing": {}, "died": {}, "replacing": {}}
    for line in lines:
        match line.word:
            case "began" | "saw" | "ended":
                _note_body(history, living, line)
            case "command":
                _note_command(living, line)
            case "killing" | "died" | "replacing":
                ends[line.word][int(line.rest[0])] = line.at_us
            case "accepted" | "process" | "left" | "surprise":
                _note_other(history, line)
    for process in history.processes.values():
        died_us = ends["died"].get(process.pid, math.inf)
        process.died_us = ends["killing"].get(process.pid, died_us)
        process.replaced_us = ends["replacing"].get(process.pid, math.inf)
    _note_deaths(history, living)
    return history


def _note_other(history: History, line: Line) -> None:
    if line.word == "accepted":
        run_id, cancel_id, scope, target, _, settled_us, _ = line.rest
        history.promises.append(Promise(run_id, cancel_id, scope, target, settled_us, line))
    elif line.word == "process":
        worker_id, incarnation, pid = line.rest
        history.processes[line.where] = Process(line.where, pid, worker_id, incarnation, line.at_us)
    elif line.word == "left":
        history.left[str(line.rest[1])] = str(line.rest[0])
    else:
        history.surprises.append(line)


def _note_body(history: History, living: dict[tuple[str, str, int], Body], line: Line) -> None:
    execution_id, start = str(line.rest[0]), int(line.rest[1])
    who = (line.where, execution_id, start)
    if line.word == "began":
        if start or who not in living:  # several processes of one command are one body
            living[who] = Body(execution_id, start, line.where, line.at_us)
            history.bodies[execution_id].append(living[who])
        return
    body = living.get(who)
    if body is None:
        history.surprises.append(line)
    elif line.word == "saw":
        body.saw_us = body.saw_us or line.at_us
    else:
        body.ended_us, body.how = line.at_us, str(line.rest[2])


def _note_command(living: dict[tuple[str, str, int], Body], line: Line) -> None:
    body = living[line.where, str(line.rest[0]), 0]
    last_us = int(line.rest[2])
    body.ended_us = last_us if math.isinf(body.ended_us) else max(body.ended_us, last_us)
    body.how = "command"


def _note_deaths(history: History, living: dict[tuple[str, str, int], Body]) -> None:
    """A process that was killed has ended its bodies: all but the commands, which are watched by themselves."""
    for body in living.values():
        owner = history.processes.get(body.where)
        if math.isinf(body.ended_us) and owner is not None and not math.isinf(owner.died_us):
            body.ended_us, body.how = owner.died_us, "died with its process"
